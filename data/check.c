#include "data/check.h"

#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>

#include "core/clock.h"
#include "core/memory.h"
#include "data/image_internal.h"
#include "data/index_part.h"
#include "data/shard.h"
#include "data/shard_glob.h"

typedef struct checker {
    const fz_check_config *config;
    fz_check_totals totals;
    char first[400];
    double next_report_s;
    char **shards; /* owned */
    int n_shards, shard;
    fz_shard_reader reader;
    fz_buffer file, pixels;
    fz_shard_listing listing;
    fz_index_pair *pairs;
    int64_t n_pairs;
    fz_sample_ids ids;
    char classes[FZ_MAX_CLASSES][FZ_CLASS_BYTES];
    int n_classes;
} checker;

static void problem(checker *c, const char *member, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void problem(checker *c, const char *member, const char *format, ...)
{
    char why[400];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    if (c->totals.n_problems++ == 0)
        snprintf(c->first, sizeof c->first, "%.120s%s%s: %.200s", c->shards[c->shard],
                 *member ? ": " : "", member, why);
    if (c->config->max_lines == 0 || c->totals.n_problems <= c->config->max_lines)
        fprintf(c->config->out, "%s%s%s: %s\n", c->shards[c->shard], *member ? ": " : "", member,
                why);
}

static const char *name_of(const checker *c, int32_t member)
{
    return c->listing.names + c->listing.members[member].name;
}

/* The bytes of a member in c->file. */
static fz_status read_member(checker *c, int32_t number)
{
    const fz_shard_member *member = &c->listing.members[number];

    FZ_TRY(fz_buffer_need(&c->file, (size_t)member->bytes + 1, "a shard member"));
    return fz_shard_read(&c->reader, c->shard, member->offset, member->bytes, c->file.bytes);
}

/* Problems are counted; what is returned is only what stops the check: no memory. */
static fz_status check_image(checker *c, int32_t number)
{
    int width = 0, height = 0;

    fz_status status = read_member(c, number);
    if (status == FZ_OK)
        status = fz_image_decode_into(c->file.bytes, (size_t)c->listing.members[number].bytes,
                                      &c->pixels, &width, &height);
    if (status == FZ_ERR_MEMORY) return status;
    if (status != FZ_OK) problem(c, name_of(c, number), "%s", fz_last_error()->text);
    return FZ_OK;
}

static void check_class(checker *c, const char *member, const fz_sample_facts *facts)
{
    char name[FZ_CLASS_BYTES];

    const int n = snprintf(name, sizeof name, "%s/%s", facts->type, facts->lang);
    if (n >= (int)sizeof name) {
        problem(c, member, "annotation %" PRId64 ": class \"%s/%s\" is longer than %d bytes",
                facts->number, facts->type, facts->lang, FZ_CLASS_BYTES - 1);
        return;
    }
    for (int k = 0; k < c->n_classes; k++)
        if (strcmp(c->classes[k], name) == 0) return;
    if (c->n_classes < FZ_MAX_CLASSES)
        memcpy(c->classes[c->n_classes++], name, sizeof name);
    else
        problem(c, member, "annotation %" PRId64 ": class \"%s\" is one more than %d",
                facts->number, name, FZ_MAX_CLASSES);
}

typedef struct seen {
    checker *c;
    const char *member;
} seen;

static void on_annotation(void *context, const fz_sample_facts *facts, fz_status status)
{
    const seen *at = context;

    at->c->totals.n_annotations++;
    at->c->totals.n_too_long += facts->is_cut;
    if (status != FZ_OK)
        problem(at->c, at->member, "%s", fz_last_error()->text);
    else
        check_class(at->c, at->member, facts);
}

static fz_status check_json(checker *c, int32_t number)
{
    seen at = {c, name_of(c, number)};

    fz_status status = read_member(c, number);
    if (status == FZ_OK)
        status = fz_sample_each(c->file.bytes, (size_t)c->listing.members[number].bytes,
                                &c->config->rules, &c->ids, on_annotation, &at);
    if (status == FZ_ERR_MEMORY) return status;
    if (status != FZ_OK) problem(c, at.member, "%s", fz_last_error()->text);
    return FZ_OK;
}

static fz_status check_pair(checker *c, const fz_index_pair *pair)
{
    if (pair->image >= 0) {
        c->totals.n_images++;
        FZ_TRY(check_image(c, pair->image));
        if (pair->json < 0) problem(c, name_of(c, pair->image), "no JSON of this name");
    }
    if (pair->json >= 0) {
        FZ_TRY(check_json(c, pair->json));
        if (pair->image < 0) problem(c, name_of(c, pair->json), "no image of this name");
    }
    return FZ_OK;
}

static void report_progress(checker *c)
{
    if (fz_clock_s() < c->next_report_s) return;
    c->next_report_s = fz_clock_s() + 10.0;
    fprintf(c->config->out, "checked %" PRId64 " images, shard %d of %d, %" PRId64 " problems\n",
            c->totals.n_images, c->shard + 1, c->n_shards, c->totals.n_problems);
    fflush(c->config->out);
}

static fz_status check_members(checker *c)
{
    FZ_TRY(FZ_NEW(&c->pairs, c->listing.n_members));
    if (fz_index_pair_members(&c->listing, c->pairs, &c->n_pairs) != FZ_OK) {
        if (fz_last_error()->status == FZ_ERR_MEMORY) return FZ_ERR_MEMORY;
        problem(c, "", "%s", fz_last_error()->text);
        return FZ_OK;
    }
    if (c->n_pairs == 0) problem(c, "", "no images");
    for (int64_t i = 0; i < c->n_pairs; i++) {
        FZ_TRY(check_pair(c, &c->pairs[i]));
        report_progress(c);
    }
    return FZ_OK;
}

static fz_status check_shard(checker *c)
{
    c->totals.n_shards++;
    if (fz_shard_list(c->shards[c->shard], &c->listing) != FZ_OK) {
        if (fz_last_error()->status == FZ_ERR_MEMORY) return FZ_ERR_MEMORY;
        /* Its text names the shard already. */
        const char *text = fz_last_error()->text;
        const char *after = strstr(text, ": ");
        problem(c, "", "%s", after != NULL ? after + 2 : text);
        return FZ_OK;
    }
    c->totals.bytes += c->listing.tar_bytes;
    const fz_status status = check_members(c);
    if (c->listing.damage[0] != '\0') problem(c, "", "%s", c->listing.damage);
    fz_free(&c->pairs);
    fz_shard_listing_reset(&c->listing);
    return status;
}

static fz_status check_all(checker *c)
{
    FZ_TRY(FZ_NEW(&c->ids.prompt, c->config->rules.max_prompt));
    FZ_TRY(FZ_NEW(&c->ids.labels, c->config->rules.max_output));
    FZ_TRY(fz_shard_glob(c->config->pattern, &c->shards, &c->n_shards));
    fz_shard_reader_init(&c->reader, c->shards);
    c->next_report_s = fz_clock_s() + 10.0;
    for (c->shard = 0; c->shard < c->n_shards; c->shard++)
        FZ_TRY(check_shard(c));
    return FZ_OK;
}

static void print_totals(const checker *c)
{
    const fz_check_totals *t = &c->totals;

    if (c->config->max_lines > 0 && t->n_problems > c->config->max_lines)
        fprintf(c->config->out, "... and %" PRId64 " more\n", t->n_problems - c->config->max_lines);
    fprintf(c->config->out,
            "%" PRId64 " shards, %.1f MB, %" PRId64 " images, %" PRId64
            " annotations in %d classes (%" PRId64 " longer than the limits, to be cut): %" PRId64
            " problems\n",
            t->n_shards, (double)t->bytes * 1e-6, t->n_images, t->n_annotations, c->n_classes,
            t->n_too_long, t->n_problems);
}

fz_status fz_data_check(const fz_check_config *config, fz_check_totals *totals_p)
{
    checker *c = NULL;

    FZ_TRY(FZ_NEW(&c, 1));
    c->config = config;
    fz_status status = check_all(c);
    if (status == FZ_OK) {
        print_totals(c);
        *totals_p = c->totals;
        if (c->totals.n_problems > 0)
            status = FZ_FAIL(FZ_ERR_FORMAT, "%" PRId64 " problems in %s; the first: %s",
                             c->totals.n_problems, config->pattern, c->first);
    }
    if (c->shards != NULL) fz_shard_reader_reset(&c->reader);
    fz_shard_glob_free(&c->shards, c->n_shards);
    fz_shard_listing_reset(&c->listing);
    fz_free(&c->pairs);
    fz_buffer_reset(&c->file);
    fz_buffer_reset(&c->pixels);
    fz_free(&c->ids.prompt);
    fz_free(&c->ids.labels);
    fz_free(&c);
    return status;
}
