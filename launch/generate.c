/* florenz generate: greedy captions of held-out images beside their pictures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/log.h"
#include "core/memory.h"
#include "launch/commands.h"
#include "launch/exit_codes.h"
#include "launch/gallery.h"
#include "launch/greedy.h"
#include "launch/json.h"
#include "launch/session.h"

static const fz_option options_table[] = {
    {"--set", "KEY=VALUE", "overrides a key of the config", true},
    {"--images", "N", "held-out images, spread evenly over data.eval; default 12", false},
    {"--task", "NAME", "annotations of this type; default caption", false},
    {"--lang", "XX", "only this language; default all that an image has", false},
    {"--prompt", "TEXT", "this prompt for every image, instead of the data's", false},
    {"--out", "FILE.html", "page to write, and FILE.jsonl; default run.dir/generate.html", false},
    {"--json", NULL, "one object on standard output", false},
};
static const fz_command command = {
    .usage = "florenz generate CONFIG [OPTION]...",
    .about = "Greedy texts for held-out images from run.dir's newest checkpoint, each with the\n"
             "reference and whether it equals it exactly; wrong ones are shown like right ones.",
    .least_args = 1,
    .most_args = 1,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

typedef struct generate {
    fz_session session;
    fz_ckpt_info info;
    fz_index *eval_index, *train_index;
    fz_greedy greedy;
    fz_greedy_sample *samples; /* owned */
    fz_caption *captions;      /* owned */
    int64_t n, n_right;
    int32_t *prompt; /* owned; NULL: the data's prompts */
    int64_t n_prompt;
    const char *prompt_text;
} generate;

/* ---- what is shown ---- */

static bool is_wanted(const char *class_name, const char *task, const char *lang)
{
    const size_t n = strlen(task);
    if (strncmp(class_name, task, n) != 0 || class_name[n] != '/') return false;
    return !lang || strcmp(class_name + n + 1, lang) == 0;
}

static bool is_seen(const fz_index *train, const char *class_name)
{
    for (int c = 0; train && c < train->n_classes; c++)
        if (strcmp(train->class_name[c], class_name) == 0) return true;
    return false;
}

static void add_sample(generate *g, int64_t image, int32_t annotation, const char *class_name)
{
    g->samples[g->n] = (fz_greedy_sample){.image = image, .annotation = annotation};
    fz_caption *caption = &g->captions[g->n++];
    caption->image = image;
    caption->annotation = annotation;
    caption->class_name = class_name;
    caption->is_seen = is_seen(g->train_index, class_name);
}

static fz_status select_samples(generate *g, int64_t n_images, const char *task, const char *lang)
{
    const fz_index *index = g->eval_index;
    if (n_images > index->n_images) n_images = index->n_images;
    int64_t most = 0;
    for (int64_t k = 0; k < n_images; k++)
        most += 1 + index->images[k * index->n_images / n_images].n_annotations;
    FZ_TRY(FZ_NEW(&g->samples, most));
    FZ_TRY(FZ_NEW(&g->captions, most));
    for (int64_t k = 0; k < n_images; k++) {
        const int64_t image = k * index->n_images / n_images;
        const fz_index_image *entry = &index->images[image];
        if (g->prompt) {
            add_sample(g, image, -1, g->prompt_text);
            continue;
        }
        for (int32_t a = 0; a < entry->n_annotations; a++) {
            const char *name =
                index->class_name[index->annotation_class[entry->first_annotation + a]];
            if (is_wanted(name, task, lang)) add_sample(g, image, a, name);
        }
    }
    FZ_CHECK(g->n > 0, FZ_ERR_USAGE, "--task %s%s%s: data.eval has no such annotations", task,
             lang ? ", --lang " : "", lang ? lang : "");
    return FZ_OK;
}

static fz_status encode_prompt(generate *g, const char *text)
{
    const fz_session *s = &g->session;
    const int64_t most = s->model.max_prompt;
    int64_t n = 0;
    if (!text) return FZ_OK;
    FZ_CHECK(s->enc_tokenizer, FZ_ERR_USAGE,
             "--prompt: data.enc_tokenizer is not set: nothing turns text into ids");
    FZ_TRY(FZ_NEW(&g->prompt, most));
    FZ_TRY(fz_tokenizer_encode(s->enc_tokenizer, text, g->prompt + 1, most - 2, &n));
    g->prompt[0] = FZ_ENC_BOS;
    g->prompt[n + 1] = FZ_ENC_EOS;
    g->n_prompt = n + 2;
    g->prompt_text = text;
    return FZ_OK;
}

/* ---- running ---- */

/* Text of ids without bos and eos; "#17 #4" where nothing can decode them. */
static fz_status decode(const fz_session *s, const int32_t *ids, int64_t n, char *out)
{
    while (n > 0 && ids[0] == FZ_DEC_BOS) {
        ids++;
        n--;
    }
    if (n > 0 && ids[n - 1] == 1) n--;
    if (s->dec_tokenizer)
        return fz_tokenizer_decode(s->dec_tokenizer, ids, n, out, FZ_CAPTION_BYTES);
    size_t used = 0;
    out[0] = '\0';
    for (int64_t i = 0; i < n && used + 16 < FZ_CAPTION_BYTES; i++)
        used +=
            (size_t)snprintf(out + used, FZ_CAPTION_BYTES - used, "%s#%d", i ? " " : "", ids[i]);
    return FZ_OK;
}

static fz_status keep_result(generate *g, int64_t i, fz_caption *caption)
{
    const fz_session *s = &g->session;
    const int64_t most = s->model.max_output;
    const int32_t *output = g->greedy.outputs + i * most, *labels = g->greedy.labels + i * most;
    const int64_t n_output = g->greedy.n_output[i];
    int64_t n_labels = g->greedy.n_labels[i];
    FZ_TRY(decode(s, output, n_output, caption->text));
    if (caption->annotation < 0) return FZ_OK;
    FZ_TRY(decode(s, labels, n_labels, caption->reference));
    if (n_labels > 0 && labels[n_labels - 1] == 1) n_labels--;
    caption->is_right =
        n_output == n_labels && memcmp(output, labels, (size_t)n_output * sizeof *output) == 0;
    g->n_right += caption->is_right;
    return FZ_OK;
}

static fz_status generate_all(generate *g)
{
    for (int64_t at = 0; at < g->n; at += g->greedy.most) {
        const int64_t n = g->n - at < g->greedy.most ? g->n - at : g->greedy.most;
        FZ_TRY(fz_greedy_run(&g->greedy, g->samples + at, n, g->prompt, g->n_prompt));
        for (int64_t i = 0; i < n; i++)
            FZ_TRY(keep_result(g, i, &g->captions[at + i]));
    }
    return FZ_OK;
}

/* ---- output ---- */

static void print_json(const generate *g, const char *page)
{
    json_t *samples = json_array();
    for (int64_t i = 0; i < g->n; i++)
        json_array_append_new(samples, fz_caption_json(g->eval_index, &g->captions[i]));
    fz_json_print(json_pack("{s:I,s:I,s:I,s:o,s:o}", "step", (json_int_t)g->info.step, "samples",
                            (json_int_t)g->n, "right", (json_int_t)g->n_right, "page",
                            fz_json_text(page), "captions", samples));
}

static void print_text(const generate *g, const char *page)
{
    for (int64_t i = 0; i < g->n; i++) {
        const fz_caption *c = &g->captions[i];
        if (c->annotation < 0) {
            printf("%s\n", c->text);
            continue;
        }
        printf("%-5s %-16s %s%s%s\n", c->is_right ? "right" : "wrong", c->class_name, c->text,
               c->is_right ? "" : "   | reference: ", c->is_right ? "" : c->reference);
    }
    if (!g->prompt)
        printf("%lld of %lld exactly right after step %lld\n", (long long)g->n_right,
               (long long)g->n, (long long)g->info.step);
    printf("page: %s\n", page);
}

static fz_status write_results(const generate *g, const fz_options *options)
{
    char page[FZ_TEXT_BYTES + 32], title[FZ_TEXT_BYTES + 64];
    const fz_session *s = &g->session;
    const char *out = fz_options_get(options, "--out");
    snprintf(page, sizeof page, "%s%s", out ? out : s->config.run.dir, out ? "" : "/generate.html");
    snprintf(title, sizeof title, "%s after step %lld: %lld of %lld exactly right",
             s->config.run.dir, (long long)g->info.step, (long long)g->n_right, (long long)g->n);
    FZ_TRY(fz_gallery_write(page, g->eval_index, g->captions, g->n, title));
    if (fz_options_get(options, "--json"))
        print_json(g, page);
    else
        print_text(g, page);
    return FZ_OK;
}

static fz_status run(generate *g, const fz_options *options)
{
    fz_session *s = &g->session;
    const char *task = fz_options_get(options, "--task");
    long long n_images = 12;
    FZ_TRY(fz_options_int(options, "--images", 1, &n_images));
    FZ_TRY(fz_session_start(s, options));
    FZ_TRY(fz_session_build(s, FZ_FOR_GENERATE));
    FZ_TRY(fz_config_blame(&s->config, fz_session_load_newest(s, &g->info)));
    FZ_TRY(fz_session_tokenizers(s));
    FZ_TRY(fz_session_index(s, "data.eval", &s->config.data.eval, &g->eval_index));
    if (s->config.data.train.n > 0)
        FZ_TRY(fz_session_index(s, "data.train", &s->config.data.train, &g->train_index));

    fz_status status = encode_prompt(g, fz_options_get(options, "--prompt"));
    if (status == FZ_OK)
        status =
            select_samples(g, n_images, task ? task : "caption", fz_options_get(options, "--lang"));
    if (status == FZ_OK) status = fz_greedy_create(s, g->eval_index, &g->greedy);
    FZ_TRY(fz_agree(s->world.group, status));
    FZ_TRY(generate_all(g));
    return fz_agree(s->world.group, s->world.rank == 0 ? write_results(g, options) : FZ_OK);
}

int fz_cmd_generate(int argc, char **argv)
{
    static generate g; /* large, and there is one */
    fz_options options;
    fz_status status = fz_options_parse(&command, argc, argv, &options);
    if (options.wants_help) {
        fz_command_help(&command, stdout);
        return FZ_EXIT_DONE;
    }
    if (status != FZ_OK) return fz_exit_with(status, false);
    status = run(&g, &options);
    fz_greedy_reset(&g.greedy);
    fz_free(&g.samples);
    fz_free(&g.captions);
    fz_free(&g.prompt);
    fz_index_destroy(&g.eval_index);
    fz_index_destroy(&g.train_index);
    fz_ckpt_info_reset(&g.info);
    g.session.can_continue = false;
    return fz_session_exit(&g.session, status);
}
