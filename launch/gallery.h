/* Generated texts beside their pictures: an HTML page with the image files inside, and the same as
 * JSON lines. Local. */
#ifndef FZ_LAUNCH_GALLERY_H
#define FZ_LAUNCH_GALLERY_H

#include <stdio.h>

#include <jansson.h>

#include "data/index.h"

typedef struct fz_caption {
    int64_t image;          /* of the index; captions of one image follow each other */
    const char *file;       /* borrowed; the picture, where there is no index; else NULL */
    const char *class_name; /* borrowed: "caption/de"; NULL: a prompt of the command line */
    bool has_reference;
    bool is_seen;                    /* the class occurs in the training data */
    bool is_right;                   /* ids equal the reference's exactly */
    char *prompt, *text, *reference; /* owned, UTF-8; NULL: none */
    int32_t *ids;                    /* owned (n_ids): what was generated, eos included */
    int64_t n_ids;
    double log_prob, score; /* not finite: unknown */
} fz_caption;

void fz_caption_reset(fz_caption *caption);
/* A new reference. {"image", "shard" (of an index), "class" (or null), "prompt", "text", "ids",
 * "log_prob", "score"}, and with a reference "seen", "reference", "right". */
json_t *fz_caption_json(const fz_index *index, const fz_caption *caption);
/* The same as one line of a file. what: its name, for the error. */
fz_status fz_caption_line(FILE *out, const char *what, const fz_index *index,
                          const fz_caption *caption);

/* path: "x.html"; the lines go to "x.jsonl" (or path.jsonl under another name). index may be NULL
 * where every caption has a file. */
fz_status fz_gallery_write(const char *path, const fz_index *index, const fz_caption *captions,
                           int64_t n, const char *title);

#endif
