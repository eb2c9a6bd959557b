#include "launch/requests.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"
#include "data/prompt.h"

int fz_requests_files(const fz_options *options, const char *files[FZ_OPTION_ARGS])
{
    int n = 0;
    for (int i = 0; i < options->n_given; i++)
        if (strcmp(options->given[i].option->name, "--image") == 0)
            files[n++] = options->given[i].value;
    for (int i = 1; i < options->n_args && n < FZ_OPTION_ARGS; i++)
        files[n++] = options->arg[i];
    return n;
}

/* ---- prompts ---- */

static fz_status encode_prompt(fz_requests *r, const char *option)
{
    const fz_session *s = r->session;
    const int64_t most = s->model.max_prompt;
    int64_t n = 0;
    FZ_CHECK(s->enc_tokenizer, FZ_ERR_USAGE,
             "%s: data.enc_tokenizer is not set: nothing turns text into ids", option);
    FZ_TRY(FZ_NEW(&r->prompt, most));
    FZ_TRY(fz_tokenizer_encode(s->enc_tokenizer, r->prompt_text, r->prompt + 1, most - 2, &n));
    r->prompt[0] = FZ_ENC_BOS;
    r->prompt[n + 1] = FZ_ENC_EOS;
    r->n_prompt = n + 2;
    return FZ_OK;
}

/* --prompt TEXT, or what a task and a language are asked with. */
static fz_status make_prompt(fz_requests *r, const char *text, const char *task, const char *lang)
{
    const size_t room = (text ? strlen(text) : 0) + FZ_PROMPT_ROOM;
    FZ_TRY(FZ_NEW(&r->prompt_text, (int64_t)room));
    if (text) {
        const fz_status status = fz_prompt_expand(text, r->prompt_text, room);
        if (status == FZ_ERR_FORMAT) /* it came by the command line, not from a file */
            return FZ_FAIL(FZ_ERR_USAGE, "--prompt: %s", fz_last_error()->text);
        FZ_TRY(status);
        return encode_prompt(r, "--prompt");
    }
    FZ_CHECK(strcmp(task, "translation") != 0, FZ_ERR_USAGE,
             "--task translation: what is to be translated? give it in the prompt, as in --prompt "
             "'<LANG_DE><TRANSLATE>A dog.'");
    FZ_TRY(fz_prompt_build(task, lang, NULL, r->prompt_text, room));
    snprintf(r->own_class, sizeof r->own_class, "%s/%s", task, lang);
    return encode_prompt(r, "--image");
}

/* ---- first words ---- */

static fz_status encode_prefix(const fz_session *s, const char *text, fz_prefix *prefix)
{
    FZ_CHECK(s->dec_tokenizer, FZ_ERR_USAGE,
             "--prefix: data.dec_tokenizer is not set: nothing turns text into ids");
    prefix->ids[0] = FZ_DEC_BOS;
    FZ_TRY(fz_tokenizer_encode(s->dec_tokenizer, text, prefix->ids + 1, FZ_PREFIX_IDS - 1,
                               &prefix->n));
    prefix->n++;
    FZ_CHECK(prefix->n < FZ_PREFIX_IDS, FZ_ERR_USAGE, "--prefix: more than %d tokens",
             FZ_PREFIX_IDS - 2);
    return FZ_OK;
}

/* option: NULL, "auto" or a text. lang NULL: unknown. */
static fz_status find_prefix(fz_requests *r, const char *option, const char *lang,
                             const fz_prefix **prefix_p)
{
    const bool is_auto = option && strcmp(option, "auto") == 0;
    const char *key = is_auto && lang ? lang : "";
    *prefix_p = NULL;
    if (!option) return FZ_OK;
    FZ_CHECK(!is_auto || lang, FZ_ERR_USAGE, "--prefix auto: for which language? add --lang XX");
    for (int i = 0; i < r->n_prefixes; i++)
        if (strcmp(r->prefix_lang[i], key) == 0) {
            *prefix_p = &r->prefixes[i];
            return FZ_OK;
        }
    const char *text = is_auto ? fz_prompt_prefix(lang) : option;
    FZ_CHECK(text && r->n_prefixes < FZ_REQUEST_PREFIXES, FZ_ERR_USAGE,
             "--prefix auto: there are no first words for the language '%s'; give --prefix TEXT",
             lang);
    const int at = r->n_prefixes++;
    snprintf(r->prefix_lang[at], sizeof r->prefix_lang[at], "%s", key);
    FZ_TRY(FZ_NEW(&r->prefix_text[at], (int64_t)strlen(text) + 1));
    memcpy(r->prefix_text[at], text, strlen(text));
    FZ_TRY(encode_prefix(r->session, text, &r->prefixes[at]));
    *prefix_p = &r->prefixes[at];
    return FZ_OK;
}

/* ---- the list ---- */

bool fz_request_is_seen(const fz_requests *r, const char *class_name)
{
    for (int c = 0; r->train_index && class_name && c < r->train_index->n_classes; c++)
        if (strcmp(r->train_index->class_name[c], class_name) == 0) return true;
    return false;
}

static bool is_wanted(const char *class_name, const char *task, const char *lang)
{
    const size_t n = strlen(task);
    if (strncmp(class_name, task, n) != 0 || class_name[n] != '/') return false;
    return !lang || strcmp(class_name + n + 1, lang) == 0;
}

static fz_status add(fz_requests *r, int64_t image, int32_t annotation, const char *class_name,
                     const char *prefix, const char *lang)
{
    fz_text_request *request = &r->requests[r->n];
    request->image = image;
    request->annotation = annotation;
    r->class_names[r->n++] = class_name;
    return find_prefix(r, prefix, lang, &request->prefix);
}

static fz_status take_list(fz_requests *r, int64_t most)
{
    FZ_TRY(FZ_NEW(&r->requests, most));
    return fz_alloc((void **)&r->class_names, (size_t)most * sizeof *r->class_names,
                    "names of classes");
}

/* So many images, spread evenly, with all their annotations of the task. */
static fz_status select_held_out(fz_requests *r, const fz_options *options, int64_t n_images)
{
    const fz_index *index = r->eval_index;
    const char *task = fz_options_get(options, "--task"), *lang = fz_options_get(options, "--lang");
    const char *prefix = fz_options_get(options, "--prefix");
    int64_t most = 0;
    if (!task) task = "caption";
    if (n_images == 0 || n_images > index->n_images) n_images = index->n_images;
    for (int64_t k = 0; k < n_images; k++)
        most += 1 + index->images[k * index->n_images / n_images].n_annotations;
    FZ_TRY(take_list(r, most));
    for (int64_t k = 0; k < n_images; k++) {
        const int64_t image = k * index->n_images / n_images;
        const fz_index_image *entry = &index->images[image];
        if (r->prompt) FZ_TRY(add(r, image, -1, NULL, prefix, lang));
        for (int32_t a = 0; !r->prompt && a < entry->n_annotations; a++) {
            const char *name =
                index->class_name[index->annotation_class[entry->first_annotation + a]];
            if (is_wanted(name, task, lang))
                FZ_TRY(add(r, image, a, name, prefix, strchr(name, '/') + 1));
        }
    }
    FZ_CHECK(r->n > 0, FZ_ERR_USAGE, "--task %s%s%s: data.eval has no such annotations", task,
             lang ? ", --lang " : "", lang ? lang : "");
    return FZ_OK;
}

static fz_status select_files(fz_requests *r, const char *prefix, const char *lang)
{
    FZ_TRY(take_list(r, r->n_files));
    for (int i = 0; i < r->n_files; i++) {
        FZ_CHECK(access(r->files[i], R_OK) == 0, FZ_ERR_USAGE, "--image: open %s: %s", r->files[i],
                 strerror(errno));
        FZ_TRY(add(r, i, -1, r->own_class[0] ? r->own_class : NULL, prefix, lang));
    }
    return FZ_OK;
}

fz_status fz_requests_make(const fz_session *session, const fz_options *options,
                           const fz_index *eval_index, const fz_index *train_index, fz_requests *r)
{
    const char *task = fz_options_get(options, "--task"), *lang = fz_options_get(options, "--lang");
    const char *prompt = fz_options_get(options, "--prompt");
    long long n_images = 12;
    memset(r, 0, sizeof *r);
    r->session = session;
    r->eval_index = eval_index;
    r->train_index = train_index;
    FZ_TRY(fz_options_int(options, "--images", 1, &n_images));
    if (fz_options_get(options, "--all")) n_images = 0;
    if (eval_index) {
        if (prompt) FZ_TRY(make_prompt(r, prompt, NULL, NULL));
        return select_held_out(r, options, n_images);
    }
    r->n_files = fz_requests_files(options, r->files);
    if (!lang && !prompt) lang = "en";
    FZ_TRY(make_prompt(r, prompt, task ? task : "caption", lang));
    return select_files(r, fz_options_get(options, "--prefix"), lang);
}

void fz_requests_reset(fz_requests *r)
{
    fz_free(&r->requests);
    fz_free(&r->class_names);
    fz_free(&r->prompt_text);
    fz_free(&r->prompt);
    for (int i = 0; i < r->n_prefixes; i++)
        fz_free(&r->prefix_text[i]);
}
