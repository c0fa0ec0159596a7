// cc -o /tmp/test_words test_words.c words.c && /tmp/test_words
#include "words.h"

#undef NDEBUG
#include <assert.h>
#include <string.h>

static bool read(struct labels *labels, const char *text) { return labels_read(labels, text, strlen(text)); }

int main(void) {
  static struct labels labels;
  assert(read(&labels, "Code: rust BUG; food: cake"));
  assert(labels.count == 2 && strcmp(labels.all[0].name, "code") == 0);
  assert(strcmp(labels.all[0].words, " rust bug ") == 0 && strcmp(labels.all[1].words, " cake ") == 0);

  unsigned counts[2] = {0};
  const char *text = "A bug in Rust: does it eat cakes, or my cake?";
  labels_count(&labels, text, strlen(text), counts);
  assert(counts[0] == 2 && counts[1] == 1);

  assert(!read(&labels, "") && !read(&labels, "rust bug") && !read(&labels, ": rust"));
  assert(read(&labels, "none:") && labels.count == 1);
  static char endless[2 * LONGEST_TEXT] = "a:";
  memset(endless + 2, 'b', sizeof endless - 3);
  assert(!read(&labels, endless));
}
