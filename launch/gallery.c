#include "launch/gallery.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "data/shard.h"
#include "launch/files.h"
#include "launch/json.h"

static const char style[] =
    "body{font:15px/1.45 sans-serif;margin:2em;max-width:70em}"
    "section{display:flex;gap:1.2em;border-top:1px solid #ddd;padding:1em 0}"
    "img{width:192px;height:192px;object-fit:contain;image-rendering:auto;background:#eee}"
    "td{padding:.1em .8em .1em 0;vertical-align:top}"
    ".right{color:#187a2f}.wrong{color:#b3261e}.ref{color:#666}.unseen{font-style:italic}";

static void put_escaped(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '&')
            fputs("&amp;", out);
        else if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '>')
            fputs("&gt;", out);
        else
            fputc(*text, out);
    }
}

static void put_base64(FILE *out, const unsigned char *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        const size_t have = n - i < 3 ? n - i : 3;
        uint32_t group = (uint32_t)bytes[i] << 16;
        if (have > 1) group |= (uint32_t)bytes[i + 1] << 8;
        if (have > 2) group |= bytes[i + 2];
        fputc(digits[group >> 18], out);
        fputc(digits[group >> 12 & 63], out);
        fputc(have > 1 ? digits[group >> 6 & 63] : '=', out);
        fputc(have > 2 ? digits[group & 63] : '=', out);
    }
}

static const char *mime_type(const unsigned char *bytes, size_t n)
{
    if (n > 4 && memcmp(bytes, "\x89PNG", 4) == 0) return "image/png";
    if (n > 12 && memcmp(bytes + 8, "WEBP", 4) == 0) return "image/webp";
    return "image/jpeg";
}

/* The file's bytes, from its shard or by its name. */
static fz_status read_image(const fz_index *index, fz_shard_reader *shards, const fz_caption *c,
                            char **bytes_p, size_t *n_p)
{
    if (c->file) {
        FZ_TRY(fz_file_read(c->file, bytes_p, n_p));
        FZ_CHECK(*bytes_p, FZ_ERR_IO, "open %s: no such file", c->file);
        return FZ_OK;
    }
    const fz_index_image *image = &index->images[c->image];
    *n_p = (size_t)image->image_bytes;
    FZ_TRY(fz_alloc((void **)bytes_p, *n_p, "an image file"));
    return fz_shard_read(shards, image->shard, image->image_offset, image->image_bytes, *bytes_p);
}

static fz_status put_image(FILE *out, const fz_index *index, fz_shard_reader *shards,
                           const fz_caption *c)
{
    char *bytes = NULL;
    size_t n = 0;
    const fz_status status = read_image(index, shards, c, &bytes, &n);
    if (status == FZ_OK) {
        const unsigned char *image = (const unsigned char *)bytes;
        fprintf(out, "<img alt=\"\" src=\"data:%s;base64,", mime_type(image, n));
        put_base64(out, image, n);
        fputs("\">", out);
    }
    fz_free(&bytes);
    return status;
}

static void put_caption(FILE *out, const fz_caption *c)
{
    const char *mark = !c->has_reference ? "" : c->is_right ? "right" : "wrong";
    const bool is_unseen = c->has_reference && !c->is_seen;
    fprintf(out, "<tr><td class=\"%s\">", is_unseen ? "unseen" : "seen");
    put_escaped(out, c->class_name ? c->class_name : c->prompt ? c->prompt : "");
    fprintf(out, "%s</td><td class=\"%s\">", is_unseen ? " (unseen)" : "", mark);
    put_escaped(out, c->text);
    fprintf(out, "</td><td class=\"%s\">%s</td></tr>\n", mark, mark);
    if (!c->has_reference || c->is_right) return;
    fputs("<tr><td></td><td class=\"ref\">", out);
    put_escaped(out, c->reference);
    fputs("</td><td class=\"ref\">reference</td></tr>\n", out);
}

static fz_status put_page(FILE *out, const fz_index *index, const fz_caption *captions, int64_t n,
                          const char *title)
{
    fz_shard_reader shards;
    fz_status status = FZ_OK;
    if (index) fz_shard_reader_init(&shards, index->shards);
    fprintf(out,
            "<!doctype html><meta charset=\"utf-8\"><title>florenz</title><style>%s</style>\n<h1>",
            style);
    put_escaped(out, title);
    fputs("</h1>\n", out);
    for (int64_t i = 0; status == FZ_OK && i < n;) {
        const int64_t image = captions[i].image;
        fputs("<section>", out);
        status = put_image(out, index, &shards, &captions[i]);
        fputs("<table>\n", out);
        for (; i < n && captions[i].image == image; i++)
            put_caption(out, &captions[i]);
        fputs("</table></section>\n", out);
    }
    if (index) fz_shard_reader_reset(&shards);
    return status;
}

json_t *fz_caption_json(const fz_index *index, const fz_caption *c)
{
    json_t *object = json_object(), *ids = json_array();
    if (c->file) {
        json_object_set_new(object, "image", fz_json_text(c->file));
    } else {
        const fz_index_image *image = &index->images[c->image];
        json_object_set_new(object, "image", fz_json_text(index->keys + image->key_offset));
        json_object_set_new(object, "shard", fz_json_text(index->shards[image->shard]));
    }
    for (int64_t i = 0; i < c->n_ids; i++)
        json_array_append_new(ids, json_integer(c->ids[i]));
    json_object_set_new(object, "class", c->class_name ? fz_json_text(c->class_name) : json_null());
    json_object_set_new(object, "prompt", c->prompt ? fz_json_text(c->prompt) : json_null());
    json_object_set_new(object, "text", fz_json_text(c->text));
    json_object_set_new(object, "ids", ids);
    json_object_set_new(object, "log_prob", fz_json_real(c->log_prob));
    json_object_set_new(object, "score", fz_json_real(c->score));
    if (!c->has_reference) return object;
    json_object_set_new(object, "seen", json_boolean(c->is_seen));
    json_object_set_new(object, "reference", fz_json_text(c->reference));
    json_object_set_new(object, "right", json_boolean(c->is_right));
    return object;
}

fz_status fz_caption_line(FILE *out, const char *what, const fz_index *index, const fz_caption *c)
{
    json_t *object = fz_caption_json(index, c);
    const bool failed =
        !object || json_dumpf(object, out, JSON_COMPACT | JSON_REAL_PRECISION(10)) != 0;
    json_decref(object);
    FZ_CHECK(!failed && fputc('\n', out) != EOF, FZ_ERR_IO, "write %s: %s", what, strerror(errno));
    return FZ_OK;
}

void fz_caption_reset(fz_caption *c)
{
    fz_free(&c->prompt);
    fz_free(&c->text);
    fz_free(&c->reference);
    fz_free(&c->ids);
}

/* Both files are made in memory and put in place whole. */
static fz_status write_one(const char *path, bool is_page, const fz_index *index,
                           const fz_caption *captions, int64_t n, const char *title)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    FZ_CHECK(out, FZ_ERR_MEMORY, "write %s: %s", path, strerror(errno));
    fz_status status = is_page ? put_page(out, index, captions, n, title) : FZ_OK;
    for (int64_t i = 0; !is_page && status == FZ_OK && i < n; i++)
        status = fz_caption_line(out, path, index, &captions[i]);
    if (fclose(out) != 0 && status == FZ_OK)
        status = FZ_FAIL(FZ_ERR_MEMORY, "write %s: %s", path, strerror(errno));
    if (status == FZ_OK) status = fz_file_replace(path, text, bytes);
    free(text);
    return status;
}

fz_status fz_gallery_write(const char *path, const fz_index *index, const fz_caption *captions,
                           int64_t n, const char *title)
{
    char lines[1024];
    const size_t length = strlen(path);
    const bool is_html = length > 5 && strcmp(path + length - 5, ".html") == 0;
    FZ_CHECK(length + 8 < sizeof lines, FZ_ERR_USAGE, "--out: the path is too long");
    snprintf(lines, sizeof lines, "%.*s.jsonl", (int)(is_html ? length - 5 : length), path);
    FZ_TRY(write_one(path, true, index, captions, n, title));
    return write_one(lines, false, index, captions, n, title);
}
