/* Comma-separated values (RFC 4180) in memory: quoted fields with commas, quotes ("") and line
 * breaks inside, either line end, a UTF-8 mark at the start. Local.
 */
#ifndef FZ_DATA_CSV_H
#define FZ_DATA_CSV_H

#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

enum { FZ_CSV_FIELDS_MAX = 64 };

typedef struct fz_csv {
    char *at, *end;   /* borrowed text, written over as fields are unquoted */
    int64_t line;     /* of the next row, from 1 */
    const char *name; /* borrowed, for messages */
} fz_csv;

typedef struct fz_csv_row {
    int64_t line;                   /* where it begins */
    int n;                          /* 0: no more rows */
    char *field[FZ_CSV_FIELDS_MAX]; /* terminated; inside the text */
} fz_csv_row;

/* text[bytes] must be writable. */
void fz_csv_init(fz_csv *csv, char *text, size_t bytes, const char *name);
/* Empty lines are passed over. FZ_ERR_FORMAT "captions.csv:17: ...". */
fz_status fz_csv_next(fz_csv *csv, fz_csv_row *row);

#endif
