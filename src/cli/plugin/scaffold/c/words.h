// Counts words: plain C, tested without WebAssembly.
#ifndef WORDS_H
#define WORDS_H

#include <stdbool.h>
#include <stddef.h>

#define MOST_LABELS 32
#define LONGEST_TEXT 4096

// Labels and their words, as they are written: `code: rust bug; food: cake`.
struct labels {
  char text[LONGEST_TEXT];
  size_t count;
  struct {
    const char *name;
    const char *words; // with one space before and behind each
  } all[MOST_LABELS];
};

// Reads them, in lower case. False where they cannot be read, or there are none.
bool labels_read(struct labels *labels, const char *text, size_t length);

// Adds to each label's count how many words of the text are its own.
void labels_count(const struct labels *labels, const char *text, size_t length, unsigned *counts);

#endif
