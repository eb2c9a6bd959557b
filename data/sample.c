#include "data/sample.h"

#include <string.h>

#include <jansson.h>

#include "core/memory.h"
#include "data/prompt.h"

/* What differs between the two sides. */
typedef struct side {
    const char *ids_key, *text_key, *who;
    int64_t max, vocab;
    int32_t bos, eos;
    const fz_tokenizer *tokenizer;
    bool is_prompt;
} side;

static side prompt_side(const fz_sample_rules *rules)
{
    return (side){"prompt_ids",
                  "prompt",
                  "encoder",
                  rules->max_prompt,
                  rules->enc_vocab,
                  FZ_ENC_BOS,
                  FZ_ENC_EOS,
                  rules->enc_tokenizer,
                  true};
}

static side output_side(const fz_sample_rules *rules)
{
    return (side){"output_ids",
                  "output",
                  "decoder",
                  rules->max_output,
                  rules->dec_vocab,
                  FZ_DEC_BOS,
                  rules->dec_eos,
                  rules->dec_tokenizer,
                  false};
}

static fz_status check_id(const side *s, const char *key, int64_t at, int64_t id)
{
    FZ_CHECK(id >= 0, FZ_ERR_FORMAT, "%s[%lld]: id %lld is negative", key, (long long)at,
             (long long)id);
    const int64_t end = s->vocab > 0 ? s->vocab : INT32_MAX;
    FZ_CHECK(id < end, FZ_ERR_FORMAT, "%s[%lld]: id %lld is beyond the %s's vocabulary of %lld",
             key, (long long)at, (long long)id, s->who, (long long)end);
    return FZ_OK;
}

static fz_status from_ids(const side *s, const json_t *list, int32_t *out, int64_t *n_p)
{
    FZ_CHECK(json_is_array(list), FZ_ERR_FORMAT, "%s is not a list", s->ids_key);
    const int64_t n = (int64_t)json_array_size(list);
    FZ_CHECK(n > 0, FZ_ERR_FORMAT, "%s is empty", s->ids_key);
    /* What will be cut is checked too: a sample is good or bad whatever the limits are. */
    for (int64_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, (size_t)i);
        FZ_CHECK(json_is_integer(item), FZ_ERR_FORMAT, "%s[%lld] is not a whole number", s->ids_key,
                 (long long)i);
        const int64_t id = json_integer_value(item);
        FZ_TRY(check_id(s, s->ids_key, i, id));
        if (i < s->max) out[i] = (int32_t)id;
    }
    *n_p = n < s->max ? n : s->max;
    return FZ_OK;
}

/* Macros of a prompt become sentences (data/prompt.h); a long one has a block of its own meanwhile.
 */
static fz_status encode_prompt(const side *s, const char *text, int32_t *out, int64_t max,
                               int64_t *n_p)
{
    const size_t bytes = strlen(text) + FZ_PROMPT_ROOM;
    char few[2048], *memory = NULL;

    if (bytes > sizeof few) FZ_TRY(fz_alloc((void **)&memory, bytes, "a long prompt"));
    char *expanded = memory ? memory : few;
    fz_status status = fz_prompt_expand(text, expanded, bytes);
    if (status == FZ_OK) status = fz_tokenizer_encode(s->tokenizer, expanded, out, max, n_p);
    fz_free(&memory);
    return status;
}

static fz_status encode(const side *s, const char *text, int32_t *out, int64_t max, int64_t *n_p)
{
    if (s->is_prompt && strchr(text, '<') != NULL) return encode_prompt(s, text, out, max, n_p);
    return fz_tokenizer_encode(s->tokenizer, text, out, max, n_p);
}

static fz_status from_text(const side *s, const json_t *text, int32_t *out, int64_t *n_p)
{
    int64_t n = 0;

    FZ_CHECK(json_is_string(text), FZ_ERR_FORMAT, "%s is not a text", s->text_key);
    FZ_CHECK(s->tokenizer != NULL, FZ_ERR_FORMAT,
             "has %s as text only, and no %s tokenizer is configured", s->text_key, s->who);
    out[0] = s->bos;
    if (s->max > 1) FZ_TRY(encode(s, json_string_value(text), out + 1, s->max - 1, &n));
    n++;
    if (n < s->max) out[n++] = s->eos;
    for (int64_t i = 0; i < n; i++)
        FZ_TRY(check_id(s, s->text_key, i, out[i]));
    *n_p = n;
    return FZ_OK;
}

static fz_status read_side(const side *s, const json_t *annotation, int32_t *out, int64_t *n_p)
{
    const json_t *list = json_object_get(annotation, s->ids_key);
    const json_t *text = json_object_get(annotation, s->text_key);

    if (list != NULL) return from_ids(s, list, out, n_p);
    if (text != NULL) return from_text(s, text, out, n_p);
    return FZ_FAIL(FZ_ERR_FORMAT, "has neither %s nor %s", s->ids_key, s->text_key);
}

static fz_status read_both(const json_t *annotation, const fz_sample_rules *rules,
                           fz_sample_ids *ids)
{
    const side prompt = prompt_side(rules), output = output_side(rules);

    FZ_CHECK(json_is_object(annotation), FZ_ERR_FORMAT, "is not an object");
    FZ_TRY(read_side(&prompt, annotation, ids->prompt, &ids->n_prompt));
    return read_side(&output, annotation, ids->labels, &ids->n_labels);
}

static fz_status read_annotation(const json_t *root, int64_t number, const fz_sample_rules *rules,
                                 fz_sample_ids *ids)
{
    const fz_status status = read_both(json_array_get(root, (size_t)number), rules, ids);
    if (status == FZ_OK) return FZ_OK;
    return FZ_FAIL(status, "annotation %lld: %s", (long long)number, fz_last_error()->text);
}

static fz_status parse(const void *json, size_t n, json_t **root_p)
{
    json_error_t error;
    json_t *root = json_loadb(json, n, 0, &error);

    if (root == NULL)
        return FZ_FAIL(FZ_ERR_FORMAT, "not JSON: line %d: %s", error.line, error.text);
    if (!json_is_array(root) || json_array_size(root) == 0) {
        const bool is_list = json_is_array(root);
        json_decref(root);
        return FZ_FAIL(FZ_ERR_FORMAT,
                       is_list ? "the list of annotations is empty" : "not a list of annotations");
    }
    *root_p = root;
    return FZ_OK;
}

fz_status fz_sample_read(const void *json, size_t n, int32_t annotation,
                         const fz_sample_rules *rules, fz_sample_ids *ids)
{
    json_t *root = NULL;
    fz_status status;

    FZ_TRY(parse(json, n, &root));
    if (annotation < 0)
        status = FZ_FAIL(FZ_ERR_FORMAT,
                         "has no annotation that can be used (florenz data check says why)");
    else if ((size_t)annotation >= json_array_size(root))
        status = FZ_FAIL(FZ_ERR_FORMAT, "annotation %d is not there; the list has %zu", annotation,
                         json_array_size(root));
    else
        status = read_annotation(root, annotation, rules, ids);
    json_decref(root);
    return status;
}

static fz_status check_text(const side *s, const json_t *annotation)
{
    const json_t *text = json_object_get(annotation, s->text_key);
    FZ_CHECK(json_is_string(text), FZ_ERR_FORMAT, "%s is not a text", s->text_key);
    return FZ_OK;
}

/* As read_side, but text is fine without a tokenizer and the length before the cut is wanted. */
static fz_status check_side(const side *s, const json_t *annotation, int32_t *out, bool *is_cut)
{
    const json_t *list = json_object_get(annotation, s->ids_key);
    int64_t n = 0;

    if (list == NULL && s->tokenizer == NULL && json_object_get(annotation, s->text_key) != NULL)
        return check_text(s, annotation);
    FZ_TRY(read_side(s, annotation, out, &n));
    if (list != NULL)
        *is_cut = *is_cut || (int64_t)json_array_size(list) > s->max;
    else
        *is_cut = *is_cut || out[n - 1] != s->eos;
    return FZ_OK;
}

static fz_status check_annotation(const json_t *annotation, const fz_sample_rules *rules,
                                  fz_sample_ids *ids, fz_sample_facts *facts)
{
    const side prompt = prompt_side(rules), output = output_side(rules);

    FZ_CHECK(json_is_object(annotation), FZ_ERR_FORMAT, "is not an object");
    facts->type = json_string_value(json_object_get(annotation, "type"));
    facts->lang = json_string_value(json_object_get(annotation, "lang"));
    FZ_TRY(check_side(&prompt, annotation, ids->prompt, &facts->is_cut));
    FZ_TRY(check_side(&output, annotation, ids->labels, &facts->is_cut));
    FZ_CHECK(facts->type != NULL && facts->lang != NULL, FZ_ERR_FORMAT, "has no text \"%s\"",
             facts->type == NULL ? "type" : "lang");
    return FZ_OK;
}

fz_status
fz_sample_each(const void *json, size_t n, const fz_sample_rules *rules, fz_sample_ids *ids,
               void (*seen)(void *context, const fz_sample_facts *facts, fz_status status),
               void *context)
{
    json_t *root = NULL;

    FZ_TRY(parse(json, n, &root));
    for (size_t i = 0; i < json_array_size(root); i++) {
        fz_sample_facts facts = {.number = (int64_t)i};
        fz_status status = check_annotation(json_array_get(root, i), rules, ids, &facts);
        if (status != FZ_OK)
            status = FZ_FAIL(status, "annotation %zu: %s", i, fz_last_error()->text);
        seen(context, &facts, status);
    }
    json_decref(root);
    return FZ_OK;
}
