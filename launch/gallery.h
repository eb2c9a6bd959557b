/* Generated texts beside their pictures: an HTML page with the image files inside, and the same as
 * JSON lines. Local. */
#ifndef FZ_LAUNCH_GALLERY_H
#define FZ_LAUNCH_GALLERY_H

#include <jansson.h>

#include "data/index.h"

enum { FZ_CAPTION_BYTES = 1024 };

typedef struct fz_caption {
    int64_t image;          /* into the index; captions of one image follow each other */
    int32_t annotation;     /* -1: the prompt of the command line, no reference */
    const char *class_name; /* borrowed: "caption/de" */
    bool is_seen;           /* the class occurs in the training data */
    bool is_right;          /* ids equal the reference's exactly */
    char text[FZ_CAPTION_BYTES], reference[FZ_CAPTION_BYTES]; /* UTF-8 */
} fz_caption;

/* path: "x.html"; the lines go to "x.jsonl" (or path.jsonl under another name). */
fz_status fz_gallery_write(const char *path, const fz_index *index, const fz_caption *captions,
                           int64_t n, const char *title);
/* A new reference. */
json_t *fz_caption_json(const fz_index *index, const fz_caption *caption);

#endif
