/* Which texts `florenz generate` makes: the options, as a list of pictures with prompts and first
 * words. Local, alike on all ranks.
 */
#ifndef FZ_LAUNCH_REQUESTS_H
#define FZ_LAUNCH_REQUESTS_H

#include "launch/options.h"
#include "launch/texts.h"

enum { FZ_REQUEST_PREFIXES = 16 };

typedef struct fz_requests {
    const fz_session *session;   /* borrowed, as are the indexes and the options' texts */
    const fz_index *eval_index;  /* NULL: files */
    const fz_index *train_index; /* or NULL */
    int64_t n;
    fz_text_request *requests; /* owned (n) */
    const char **class_names;  /* owned (n) of borrowed names; NULL: own prompt */
    int n_files;
    const char *files[FZ_OPTION_ARGS];
    char own_class[FZ_CLASS_BYTES]; /* of files: "caption/de" */
    char *prompt_text;              /* owned; the prompt of all requests, or NULL */
    int32_t *prompt;                /* owned (n_prompt); or NULL */
    int64_t n_prompt;
    int n_prefixes;
    char prefix_lang[FZ_REQUEST_PREFIXES][FZ_CLASS_BYTES];
    char *prefix_text[FZ_REQUEST_PREFIXES]; /* owned */
    fz_prefix prefixes[FZ_REQUEST_PREFIXES];
} fz_requests;

/* --image and plain arguments behind CONFIG. Returns their number. */
int fz_requests_files(const fz_options *options, const char *files[FZ_OPTION_ARGS]);
/* eval_index NULL: the files. FZ_ERR_USAGE names the option. */
fz_status fz_requests_make(const fz_session *session, const fz_options *options,
                           const fz_index *eval_index, const fz_index *train_index,
                           fz_requests *requests);
void fz_requests_reset(fz_requests *requests);
bool fz_request_is_seen(const fz_requests *requests, const char *class_name);

#endif
