// A classifier: the label whose words a request uses most.
//
// `plugin.h` is made of `wit/` by wit-bindgen. What is returned is freed there, so every text of it is a copy.
#include "plugin.h"
#include "words.h"

#include <stdlib.h>
#include <string.h>

// What `init` leaves here is the state in which each call finds it.
static struct labels labels;

void exports_tollgate_plugin_lifecycle_describe(exports_tollgate_plugin_lifecycle_manifest_t *manifest) {
  plugin_string_dup(&manifest->name, "plugin-name");
  plugin_string_dup(&manifest->version, "0.1.0");
  plugin_string_dup(&manifest->description, "Says what a request is about, by its words");
  manifest->needs = EXPORTS_TOLLGATE_PLUGIN_LIFECYCLE_NEEDS_SEGMENTS;
}

// Runs once, when the file is loaded, with the plugin's `config:` as JSON text: here, one text in quotation marks.
bool exports_tollgate_plugin_lifecycle_init(plugin_string_t *config, plugin_string_t *error) {
  const char *text = (const char *)config->ptr;
  size_t length = config->len;
  bool is_text = length >= 2 && text[0] == '"' && memchr(text, '\\', length) == NULL;
  bool read = is_text && labels_read(&labels, text + 1, length - 2);
  plugin_string_free(config);
  if (!read) plugin_string_dup(error, "config: write labels and their words as \"code: rust bug; food: cake\"");
  return read;
}

static int best_first(const void *a, const void *b) {
  const exports_tollgate_plugin_classify_label_t *one = a, *other = b;
  return (one->score < other->score) - (one->score > other->score);
}

bool exports_tollgate_plugin_classify_classify(
    exports_tollgate_plugin_classify_request_context_t *request,
    exports_tollgate_plugin_classify_list_segment_t *segments,
    exports_tollgate_plugin_classify_classification_t *found,
    exports_tollgate_plugin_classify_failure_t *failure) {
  unsigned counts[MOST_LABELS] = {0}, sum = 0;
  for (size_t i = 0; i < segments->len; ++i) {
    plugin_string_t text = segments->ptr[i].text;
    labels_count(&labels, (const char *)text.ptr, text.len, counts);
  }
  exports_tollgate_plugin_classify_request_context_free(request);
  exports_tollgate_plugin_classify_list_segment_free(segments);

  memset(found, 0, sizeof *found);
  for (size_t i = 0; i < labels.count; ++i) sum += counts[i];
  if (sum == 0) return true;
  found->labels.ptr = calloc(labels.count, sizeof *found->labels.ptr);
  if (found->labels.ptr == NULL) {
    failure->tag = TOLLGATE_PLUGIN_TYPES_FAILURE_INTERNAL;
    plugin_string_dup(&failure->val.internal, "no memory is left");
    return false;
  }
  for (size_t i = 0; i < labels.count; ++i) {
    if (counts[i] == 0) continue;
    exports_tollgate_plugin_classify_label_t *label = &found->labels.ptr[found->labels.len++];
    plugin_string_dup(&label->name, labels.all[i].name);
    label->score = (float)counts[i] / (float)sum;
  }
  qsort(found->labels.ptr, found->labels.len, sizeof *found->labels.ptr, best_first);
  return true;
}
