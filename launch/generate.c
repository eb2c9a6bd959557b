/* florenz generate: texts for held-out images or for picture files. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/memory.h"
#include "launch/commands.h"
#include "launch/exit_codes.h"
#include "launch/gallery.h"
#include "launch/json.h"
#include "launch/requests.h"
#include "launch/share.h"

static const fz_option options_table[] = {
    {"--set", "KEY=VALUE", "overrides a key of the config", true},
    {"--images", "N", "held-out images, spread evenly over data.eval; default 12", false},
    {"--all", NULL, "all held-out images", false},
    {"--image", "FILE", "this picture (JPEG, PNG, WebP) instead of data.eval's", true},
    {"--task", "NAME", "annotations or prompt of this kind; default caption", false},
    {"--lang", "XX", "only this language; default all that an image has; of files en", false},
    {"--prompt", "TEXT", "this prompt for every image; macros as in <LANG_DE><CAPTION>", false},
    {"--prefix", "TEXT|auto", "every text begins so; auto: as its language does", false},
    {"--strip-prefix", NULL, "the text without its prefix", false},
    {"--beams", "N", "of the search; default 1, which is greedy", false},
    {"--length-penalty", "X", "score = log_prob / tokens^X; default 1", false},
    {"--early-stopping", "WHEN", "true, false or never, as in transformers; default false", false},
    {"--no-repeat-ngram", "N", "no N tokens twice; default 0, which forbids nothing", false},
    {"--min-tokens", "N", "of a text, its end counted; default 0", false},
    {"--max-tokens", "N", "of a text; default model.max_output", false},
    {"--forced-bos", NULL, "every text without a prefix begins with bos, at no cost", false},
    {"--forced-eos", NULL, "a text at its limit ends with eos, at no cost", false},
    {"--no-cache", NULL, "greedy, each token from the whole text: a check, and slow", false},
    {"--jsonl", "PATH", "one JSON object a line, as they come; - is standard output", false},
    {"--out", "FILE.html", "page to write, and FILE.jsonl; default run.dir/generate.html", false},
    {"--json", NULL, "one object on standard output", false},
};
static const fz_command command = {
    .usage = "florenz generate CONFIG [FILE]... [OPTION]...",
    .about =
        "Texts by run.dir's newest checkpoint, on any number of ranks: for held-out images, each\n"
        "with the reference and whether it equals it exactly, or for the pictures that are named.\n"
        "The page is left out beside --jsonl and for pictures, unless --out asks for it.\n"
        "\n"
        "A line of JSON: image, shard, class, prompt, text, ids (as generated, the end included),\n"
        "log_prob (natural logarithm, of the ids), score; where there is one reference, right\n"
        "(the ids are equal) and seen (its class is in data.train).",
    .least_args = 1,
    .most_args = FZ_OPTION_ARGS,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

typedef struct generate {
    fz_session session;
    fz_ckpt_info info;
    fz_index *eval_index, *train_index;
    fz_texts_config config;
    fz_requests requests;
    fz_texts *texts;
    const char *files[FZ_OPTION_ARGS];
    int n_files;
    /* rank 0 */
    fz_caption *captions; /* owned (requests.n); emptied where nobody needs them any more */
    bool keeps, prints, strips;
    char page[FZ_TEXT_BYTES + 32]; /* "": none */
    const char *lines_path;
    FILE *lines;
    int64_t n_right, n_references;
} generate;

/* ---- options ---- */

static fz_status read_early_stopping(const char *text, fz_early_stopping *stopping)
{
    static const char *const names[] = {"false", "true", "never"};
    for (int i = 0; text && i < 3; i++)
        if (strcmp(text, names[i]) == 0) {
            *stopping = (fz_early_stopping)i;
            return FZ_OK;
        }
    FZ_CHECK(!text, FZ_ERR_USAGE, "--early-stopping: %s is not true, false or never", text);
    return FZ_OK;
}

static fz_status read_search(const fz_options *options, generate *g)
{
    fz_search_config *c = &g->config.search;
    long long beams = 1, ngram = 0, least = 0, most = 0;
    c->length_penalty = 1;
    FZ_TRY(fz_options_int(options, "--beams", 1, &beams));
    FZ_TRY(fz_options_int(options, "--no-repeat-ngram", 0, &ngram));
    FZ_TRY(fz_options_int(options, "--min-tokens", 0, &least));
    FZ_TRY(fz_options_int(options, "--max-tokens", 1, &most));
    FZ_TRY(fz_options_real(options, "--length-penalty", -100, 100, &c->length_penalty));
    FZ_TRY(read_early_stopping(fz_options_get(options, "--early-stopping"), &c->early_stopping));
    FZ_CHECK(beams <= 1024 && most <= 1 << 20 && ngram <= 1 << 20, FZ_ERR_USAGE,
             "at most 1024 beams and %d tokens", 1 << 20);
    c->beams = beams;
    c->no_repeat_ngram = ngram;
    c->min_tokens = least;
    c->max_tokens = most;
    c->forced_first = fz_options_get(options, "--forced-bos") ? FZ_DEC_BOS : 0;
    c->forced_last = fz_options_get(options, "--forced-eos") ? FZ_DEC_EOS : 0;
    g->config.no_cache = fz_options_get(options, "--no-cache") != NULL;
    FZ_CHECK(!g->config.no_cache || (beams == 1 && ngram == 0 && least == 0 &&
                                     c->forced_first == 0 && c->forced_last == 0),
             FZ_ERR_USAGE,
             "--no-cache: plain greedy search alone; leave out --beams, --no-repeat-ngram, "
             "--min-tokens, --forced-bos and --forced-eos");
    return FZ_OK;
}

static fz_status read_options(const fz_options *options, generate *g)
{
    static const char *const of_data[] = {"--images", "--all"};
    g->n_files = fz_requests_files(options, g->files);
    for (int i = 0; g->n_files > 0 && i < 2; i++)
        FZ_CHECK(!fz_options_get(options, of_data[i]), FZ_ERR_USAGE,
                 "%s: of data.eval, but pictures are named; leave out one of them", of_data[i]);
    FZ_CHECK(!fz_options_get(options, "--all") || !fz_options_get(options, "--images"),
             FZ_ERR_USAGE, "--all and --images: give one of them");
    g->lines_path = fz_options_get(options, "--jsonl");
    g->strips = fz_options_get(options, "--strip-prefix") != NULL;
    g->prints = !g->lines_path && !fz_options_get(options, "--json");
    FZ_CHECK(!g->lines_path || strcmp(g->lines_path, "-") != 0 ||
                 !fz_options_get(options, "--json"),
             FZ_ERR_USAGE, "--jsonl - and --json: both are for standard output; give one");
    return read_search(options, g);
}

/* ---- a text ---- */

/* Text of ids without the specials and without what the tokenizer does not know; "#17 #4" where
 * nothing can decode them. n_special: bos, eos and pad are the first ids of both tokenizers. */
static fz_status decode(const fz_tokenizer *tokenizer, const int32_t *ids, int64_t n, char **text_p)
{
    enum { N_SPECIAL = 3, BYTES = 256 }; /* of the longest piece there is, and more */
    const int64_t vocab = tokenizer ? fz_tokenizer_vocab(tokenizer) : INT32_MAX;
    const size_t bytes = (size_t)(n + 1) * BYTES;
    int32_t *plain = NULL;
    int64_t n_plain = 0;
    char *text = NULL;
    fz_status status = FZ_NEW(&plain, n + 1);
    if (status == FZ_OK) status = FZ_NEW(&text, (int64_t)bytes);
    for (int64_t i = 0; status == FZ_OK && i < n; i++)
        if (ids[i] >= N_SPECIAL && ids[i] < vocab) plain[n_plain++] = ids[i];
    if (status == FZ_OK && tokenizer)
        status = fz_tokenizer_decode(tokenizer, plain, n_plain, text, bytes);
    size_t used = 0;
    for (int64_t i = 0; status == FZ_OK && !tokenizer && i < n_plain; i++)
        used += (size_t)snprintf(text + used, bytes - used, "%s#%d", i ? " " : "", plain[i]);
    fz_free(&plain);
    if (status != FZ_OK)
        fz_free(&text);
    else
        *text_p = text;
    return status;
}

static void strip(char *text)
{
    const size_t space = strspn(text, " ");
    memmove(text, text + space, strlen(text + space) + 1);
    for (size_t n = strlen(text); n > 0 && text[n - 1] == ' '; n--)
        text[n - 1] = '\0';
}

/* All decoder ids behind the start id. */
static fz_status whole_text(const fz_text *text, int32_t **ids_p, int64_t *n_p)
{
    const int64_t n_prefix = text->prefix ? text->prefix->n : 0;
    FZ_TRY(FZ_NEW(ids_p, n_prefix + text->n + 1));
    if (n_prefix > 0) memcpy(*ids_p, text->prefix->ids, (size_t)n_prefix * sizeof **ids_p);
    memcpy(*ids_p + n_prefix, text->ids, (size_t)text->n * sizeof **ids_p);
    *n_p = n_prefix + text->n;
    return FZ_OK;
}

/* Whether they are the same, an eos at the end or not. */
static bool is_equal(const int32_t *a, int64_t n_a, const int32_t *b, int64_t n_b)
{
    enum { EOS = 1 };
    n_a -= n_a > 0 && a[n_a - 1] == EOS;
    n_b -= n_b > 0 && b[n_b - 1] == EOS;
    return n_a == n_b && memcmp(a, b, (size_t)n_a * sizeof *a) == 0;
}

static fz_status fill_reference(generate *g, const fz_text *text, const int32_t *ids, int64_t n,
                                fz_caption *c)
{
    c->has_reference = true;
    c->is_seen = fz_request_is_seen(&g->requests, c->class_name);
    c->is_right = is_equal(ids, n, text->labels, text->n_labels);
    g->n_references++;
    g->n_right += c->is_right;
    return decode(g->session.dec_tokenizer, text->labels, text->n_labels, &c->reference);
}

static fz_status fill_prompt(const generate *g, const fz_text *text, fz_caption *c)
{
    const char *own = g->requests.prompt_text;
    if (!own && !g->session.enc_tokenizer) return FZ_OK;
    if (!own) return decode(g->session.enc_tokenizer, text->prompt, text->n_prompt, &c->prompt);
    FZ_TRY(FZ_NEW(&c->prompt, (int64_t)strlen(own) + 1));
    memcpy(c->prompt, own, strlen(own));
    return FZ_OK;
}

static fz_status fill_caption(generate *g, int64_t i, fz_caption *c)
{
    const fz_text_request *request = &g->requests.requests[i];
    const fz_tokenizer *tokenizer = g->session.dec_tokenizer;
    fz_text text;
    int32_t *ids = NULL;
    int64_t n = 0;
    FZ_TRY(fz_texts_get(g->texts, i, &text));
    c->image = request->image;
    c->file = g->eval_index ? NULL : g->files[request->image];
    c->class_name = g->requests.class_names[i];
    c->log_prob = text.log_prob;
    c->score = text.score;
    c->n_ids = text.n;
    FZ_TRY(FZ_NEW(&c->ids, text.n + 1));
    memcpy(c->ids, text.ids, (size_t)text.n * sizeof *c->ids);
    FZ_TRY(fill_prompt(g, &text, c));
    fz_status status = whole_text(&text, &ids, &n);
    if (status == FZ_OK)
        status = g->strips ? decode(tokenizer, text.ids, text.n, &c->text)
                           : decode(tokenizer, ids, n, &c->text);
    if (status == FZ_OK && request->annotation >= 0) status = fill_reference(g, &text, ids, n, c);
    fz_free(&ids);
    if (status == FZ_OK && g->strips) strip(c->text);
    return status;
}

/* ---- output ---- */

static void print_caption(const generate *g, const fz_caption *c)
{
    if (c->file && g->n_files > 1) printf("%s: ", c->file);
    if (!c->has_reference)
        printf("%s\n", c->text);
    else
        printf("%-5s %-16s %s%s%s\n", c->is_right ? "right" : "wrong", c->class_name, c->text,
               c->is_right ? "" : "   | reference: ", c->is_right ? "" : c->reference);
}

static fz_status put_caption(generate *g, int64_t i)
{
    fz_caption *c = &g->captions[i];
    fz_status status = fill_caption(g, i, c);
    if (status == FZ_OK && g->lines)
        status = fz_caption_line(g->lines, g->lines_path, g->eval_index, c);
    if (status == FZ_OK && g->prints) print_caption(g, c);
    if (!g->keeps) fz_caption_reset(c);
    return status;
}

static fz_status put_round(generate *g, int64_t first, int64_t end)
{
    for (int64_t i = first; i < end; i++)
        FZ_TRY(put_caption(g, i));
    FZ_CHECK(!g->lines || fflush(g->lines) == 0, FZ_ERR_IO, "write %s: %s", g->lines_path,
             strerror(errno));
    return FZ_OK;
}

/* Rank 0, before anything is generated: where it will go. */
static fz_status open_output(generate *g, const fz_options *options)
{
    const char *out = fz_options_get(options, "--out");
    if (out || (!g->lines_path && g->n_files == 0))
        snprintf(g->page, sizeof g->page, "%s%s", out ? out : g->session.config.run.dir,
                 out ? "" : "/generate.html");
    g->keeps = g->page[0] || fz_options_get(options, "--json");
    FZ_TRY(FZ_NEW(&g->captions, g->requests.n));
    if (!g->lines_path) return FZ_OK;
    g->lines = strcmp(g->lines_path, "-") == 0 ? stdout : fopen(g->lines_path, "w");
    FZ_CHECK(g->lines, FZ_ERR_IO, "--jsonl: open %s: %s", g->lines_path, strerror(errno));
    return FZ_OK;
}

static fz_status close_lines(generate *g)
{
    FILE *lines = g->lines;
    g->lines = NULL;
    if (!lines || lines == stdout) return FZ_OK;
    FZ_CHECK(fclose(lines) == 0, FZ_ERR_IO, "write %s: %s", g->lines_path, strerror(errno));
    return FZ_OK;
}

static void print_json(const generate *g)
{
    json_t *samples = json_array();
    for (int64_t i = 0; i < g->requests.n; i++)
        json_array_append_new(samples, fz_caption_json(g->eval_index, &g->captions[i]));
    fz_json_print(json_pack("{s:I,s:I,s:I,s:o,s:o}", "step", (json_int_t)g->info.step, "samples",
                            (json_int_t)g->requests.n, "right", (json_int_t)g->n_right, "page",
                            g->page[0] ? fz_json_text(g->page) : json_null(), "captions", samples));
}

static fz_status write_rest(generate *g, const fz_options *options)
{
    char title[FZ_TEXT_BYTES + 64];
    snprintf(title, sizeof title, "%s after step %lld: %lld of %lld exactly right",
             g->session.config.run.dir, (long long)g->info.step, (long long)g->n_right,
             (long long)g->requests.n);
    FZ_TRY(close_lines(g));
    if (g->page[0])
        FZ_TRY(fz_gallery_write(g->page, g->eval_index, g->captions, g->requests.n, title));
    if (fz_options_get(options, "--json")) print_json(g);
    const bool is_free =
        !fz_options_get(options, "--json") && !(g->lines_path && strcmp(g->lines_path, "-") == 0);
    if (is_free && g->n_references > 0)
        printf("%lld of %lld exactly right after step %lld\n", (long long)g->n_right,
               (long long)g->requests.n, (long long)g->info.step);
    if (is_free && g->page[0]) printf("page: %s\n", g->page);
    return FZ_OK;
}

/* ---- running ---- */

static fz_status run_rounds(generate *g)
{
    fz_status mine = FZ_OK;
    for (;;) {
        int64_t first = 0, end = 0;
        FZ_TRY(fz_texts_run(g->texts, mine, &first, &end));
        if (first == end) return FZ_OK;
        if (g->session.world.rank == 0) mine = put_round(g, first, end);
    }
}

static fz_status load(generate *g)
{
    fz_session *s = &g->session;
    FZ_TRY(fz_session_build(s, g->config.no_cache ? FZ_FOR_ONE_LANE : FZ_FOR_EVAL));
    FZ_TRY(fz_config_blame(&s->config, fz_session_load_newest(s, &g->info)));
    FZ_TRY(fz_session_tokenizers(s));
    if (g->n_files > 0) return FZ_OK;
    FZ_TRY(fz_session_index(s, "data.eval", &s->config.data.eval, &g->eval_index));
    if (s->config.data.train.n > 0)
        FZ_TRY(fz_session_index(s, "data.train", &s->config.data.train, &g->train_index));
    return FZ_OK;
}

static fz_status run(generate *g, const fz_options *options)
{
    fz_session *s = &g->session;
    FZ_TRY(read_options(options, g));
    FZ_TRY(fz_session_start(s, options));
    FZ_TRY(load(g));
    FZ_TRY(fz_share_status(
        s->world.group, fz_requests_make(s, options, g->eval_index, g->train_index, &g->requests)));
    if (g->config.search.max_tokens == 0) g->config.search.max_tokens = s->model.max_output;
    g->config.index = g->eval_index;
    g->config.files = g->files;
    g->config.prompt = g->requests.prompt;
    g->config.n_prompt = g->requests.n_prompt;
    FZ_TRY(fz_texts_create(s, &g->config, g->requests.requests, g->requests.n, &g->texts));
    FZ_TRY(fz_agree(s->world.group, s->world.rank == 0 ? open_output(g, options) : FZ_OK));
    FZ_TRY(run_rounds(g));
    return fz_agree(s->world.group, s->world.rank == 0 ? write_rest(g, options) : FZ_OK);
}

int fz_cmd_generate(int argc, char **argv)
{
    static generate g; /* large, and there is one */
    fz_options options;
    int code;
    if (!fz_command_begins(&command, argc, argv, &options, &code)) return code;
    fz_status status = run(&g, &options);
    close_lines(&g);
    for (int64_t i = 0; g.captions && i < g.requests.n; i++)
        fz_caption_reset(&g.captions[i]);
    fz_free(&g.captions);
    fz_texts_destroy(&g.texts);
    fz_requests_reset(&g.requests);
    fz_index_destroy(&g.eval_index);
    fz_index_destroy(&g.train_index);
    fz_ckpt_info_reset(&g.info);
    g.session.can_continue = false;
    return fz_session_exit(&g.session, status);
}
