#include "words.h"

#include <string.h>

#define LONGEST_WORD 64

// Letters and digits of ASCII, and every byte of a letter beyond.
static bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (unsigned char)c >= 0x80;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

// The next word, as ` word `, and its length; 0 at the end. Words that are too long are cut.
static size_t next_word(const char *text, size_t length, size_t *at, char word[LONGEST_WORD + 3]) {
  size_t end = 0;
  while (*at < length && !is_letter(text[*at])) ++*at;
  for (; *at < length && is_letter(text[*at]); ++*at) {
    if (end < LONGEST_WORD) word[++end] = lower(text[*at]);
  }
  word[0] = word[end + 1] = ' ';
  word[end + 2] = '\0';
  return end;
}

bool labels_read(struct labels *labels, const char *text, size_t length) {
  size_t used = 0, at = 0;
  labels->count = 0;
  while (at < length) {
    const char *colon = memchr(text + at, ':', length - at);
    if (colon == NULL || labels->count == MOST_LABELS) return false;
    const char *semicolon = memchr(colon, ';', length - (size_t)(colon - text));
    size_t end = semicolon ? (size_t)(semicolon - text) : length;
    size_t words = (size_t)(colon - text) + 1;
    char word[LONGEST_WORD + 3];
    size_t named = next_word(text, (size_t)(colon - text), &at, word);
    // Every word is written once more with a space, the name with a zero.
    if (named == 0 || used + named + 2 * (end - words) + 4 > LONGEST_TEXT) return false;
    labels->all[labels->count].name = memcpy(labels->text + used, word + 1, named);
    labels->text[used + named] = '\0';
    used += named + 1;
    labels->all[labels->count++].words = labels->text + used;
    labels->text[used++] = ' ';
    for (size_t one; (one = next_word(text, end, &words, word)) > 0; used += one + 1) {
      memcpy(labels->text + used, word + 1, one + 1);
    }
    labels->text[used++] = '\0';
    at = semicolon ? end + 1 : length;
    while (at < length && text[at] == ' ') ++at;
  }
  return labels->count > 0;
}

void labels_count(const struct labels *labels, const char *text, size_t length, unsigned *counts) {
  char word[LONGEST_WORD + 3];
  for (size_t at = 0; next_word(text, length, &at, word) > 0;) {
    for (size_t label = 0; label < labels->count; ++label) {
      if (strstr(labels->all[label].words, word)) ++counts[label];
    }
  }
}
