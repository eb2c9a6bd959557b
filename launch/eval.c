/* florenz eval: held-out loss by class, from the newest checkpoint. */
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/memory.h"
#include "launch/commands.h"
#include "launch/exit_codes.h"
#include "launch/json.h"
#include "launch/run.h"

static const fz_option options_table[] = {
    {"--set", "KEY=VALUE", "overrides a key of the config", true},
    {"--samples", "N", "held-out samples, in the order of the shards; default all", false},
    {"--json", NULL, "one object on standard output", false},
};
static const fz_command command = {
    .usage = "florenz eval CONFIG [OPTION]...",
    .about =
        "Loss on data.eval by class (task/language), and whether the class occurs in data.train\n"
        "(seen) or not (unseen). Uses run.dir's newest checkpoint, on any number of ranks.",
    .least_args = 1,
    .most_args = 1,
    .options = options_table,
    .n_options = sizeof options_table / sizeof *options_table,
};

static void print_json(const fz_session *s, int64_t step, const fz_evaluation *e)
{
    json_t *classes = json_array();
    for (int c = 0; c < e->n_classes; c++) {
        const fz_class_loss *class = &e->classes[c];
        if (class->n_samples == 0) continue;
        json_array_append_new(classes,
                              json_pack("{s:o,s:b,s:o,s:I,s:I}", "class", fz_json_text(class->name),
                                        "seen", class->is_seen, "loss", fz_json_real(class->loss),
                                        "samples", (json_int_t) class->n_samples, "labels",
                                        (json_int_t) class->n_labels));
    }
    fz_json_print(json_pack("{s:I,s:o,s:I,s:s,s:o}", "step", (json_int_t)step, "loss",
                            fz_json_real(e->loss), "samples", (json_int_t)e->n_samples, "run",
                            s->config.run.dir, "classes", classes));
}

static void print_table(int64_t step, const fz_evaluation *e)
{
    printf("held-out loss after step %lld\n%-28s %-7s %9s %9s\n", (long long)step, "class",
           "trained", "samples", "loss");
    for (int seen = 1; seen >= 0; seen--)
        for (int c = 0; c < e->n_classes; c++) {
            const fz_class_loss *class = &e->classes[c];
            if (class->n_samples == 0 || class->is_seen != (seen == 1)) continue;
            printf("%-28s %-7s %9lld %9.4f\n", class->name, seen ? "seen" : "unseen",
                   (long long)class->n_samples, class->loss);
        }
    printf("%-28s %-7s %9lld %9.4f\n", "all", "", (long long)e->n_samples, e->loss);
}

typedef struct eval {
    fz_session session;
    fz_ckpt_info info;
    fz_index *train_index, *eval_index;
    fz_evaluator evaluator;
    fz_evaluation evaluation;
} eval;

static fz_status evaluate(eval *e, const fz_options *options)
{
    fz_session *s = &e->session;
    long long samples = 0;
    FZ_TRY(fz_options_int(options, "--samples", 1, &samples));
    FZ_TRY(fz_session_start(s, options));
    FZ_TRY(fz_session_build(s, FZ_FOR_EVAL));
    FZ_TRY(fz_config_blame(&s->config, fz_session_load_newest(s, &e->info)));
    FZ_TRY(fz_session_tokenizers(s));
    FZ_TRY(fz_session_index(s, "data.eval", &s->config.data.eval, &e->eval_index));
    if (s->config.data.train.n > 0)
        FZ_TRY(fz_session_index(s, "data.train", &s->config.data.train, &e->train_index));

    const fz_loader_config loader = fz_loader_config_of(s);
    FZ_TRY(fz_agree(s->world.group,
                    fz_evaluator_create(&loader, e->eval_index, e->train_index, samples,
                                        s->config.data.on_bad_sample == FZ_BAD_SKIP, s->world.group,
                                        &e->evaluator)));
    FZ_TRY(fz_evaluator_run(&e->evaluator, s->trainer, &e->evaluation));
    if (s->world.rank != 0) return FZ_OK;
    if (fz_options_get(options, "--json"))
        print_json(s, e->info.step, &e->evaluation);
    else
        print_table(e->info.step, &e->evaluation);
    return FZ_OK;
}

int fz_cmd_eval(int argc, char **argv)
{
    static eval e; /* large, and there is one */
    fz_options options;
    int code;
    if (!fz_command_begins(&command, argc, argv, &options, &code)) return code;
    fz_status status = evaluate(&e, &options);
    fz_evaluator_reset(&e.evaluator);
    fz_index_destroy(&e.train_index);
    fz_index_destroy(&e.eval_index);
    fz_ckpt_info_reset(&e.info);
    e.session.can_continue = false; /* there is nothing to run again */
    return fz_session_exit(&e.session, status);
}
