#include "launch/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void fz_json_print(json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(10));
    putchar('\n');
    json_decref(object);
}

json_t *fz_json_text(const char *text)
{
    json_t *whole = json_string(text);
    char ascii[1024];
    size_t n = 0;
    if (whole) return whole;
    for (; *text && n + 1 < sizeof ascii; text++)
        if ((unsigned char)*text < 0x80) ascii[n++] = *text;
    ascii[n] = '\0';
    return json_string(ascii);
}

json_t *fz_json_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}
