/* florenz data build: a folder of images and a CSV file to WebDataset shards. Local.
 *
 * The CSV's first line names its columns, in any order: image,lang,type,prompt,output. Each other
 * row is one annotation; rows of the same image (anywhere in the file) become one sample. image is
 * a path inside the folder. Images are taken over byte for byte.
 */
#ifndef FZ_DATA_CSV_BUILD_H
#define FZ_DATA_CSV_BUILD_H

#include <stdint.h>

#include "core/status.h"

typedef struct fz_csv_build_config {
    const char *images; /* folder */
    const char *csv;
    const char *out; /* folder, created: train-%05d.tar and eval-%05d.tar */
    int images_per_shard;
    int eval_every; /* every n-th image, in order of appearance, is held out; 0: none */
    bool force;     /* shards that are already in out are removed first; else they are an error */
} fz_csv_build_config;

typedef struct fz_csv_build_totals {
    int64_t n_images, n_eval_images, n_annotations;
    int n_shards, n_eval_shards;
} fz_csv_build_totals;

/* Errors name the line: "captions.csv:17: cat.jpg: no such file". Every image is decoded once to be
 * sure of it. A failure leaves no shards behind. */
fz_status fz_data_build(const fz_csv_build_config *config, fz_csv_build_totals *totals_p);

#endif
