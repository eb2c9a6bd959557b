/* Writing JSON: what --json prints. Local. */
#ifndef FZ_LAUNCH_JSON_H
#define FZ_LAUNCH_JSON_H

#include <jansson.h>

/* One line on standard output; drops the reference. */
void fz_json_print(json_t *object);
/* A text that may be no UTF-8: what is not is left out. */
json_t *fz_json_text(const char *text);
/* null for what is not finite. */
json_t *fz_json_real(double value);

#endif
