#include "data/bpe_internal.h"

#if FZ_HAVE_PCRE2

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "core/memory.h"
#include "data/buffer.h"
#include "data/utf8.h"

enum {
    BART_TOKENS = 50265, /* facebook/bart-*, and so Florence-2 before its processor adds to it */
    FLORENCE_TOKENS = 1024,
    ALPHABET = 256 + 68 /* code points that stand for bytes end below */
};

/* What is being read. */
typedef struct reading {
    const char *path;
    json_t *root, *more,
        *pairs;    /* owned; tokenizer.json or vocab.json; added_tokens.json; merges.txt */
    json_t *vocab; /* borrowed */
    int64_t n_vocab, n_tokens;
    const char **names;        /* owned (n_vocab + room), by id; borrowed from the JSON and own */
    char (*florence)[32];      /* owned; names of what is added to BART */
    int16_t byte_of[ALPHABET]; /* of a code point; -1: none */
    fz_bpe *bpe;
} reading;

/* ---- bytes as letters ---- */

/* GPT-2 writes a byte that is no visible Latin-1 character as the next unused one from U+0100. */
static void make_alphabet(int16_t byte_of[ALPHABET])
{
    int next = 256;

    for (int c = 0; c < ALPHABET; c++)
        byte_of[c] = -1;
    for (int b = 0; b < 256; b++) {
        const bool is_visible = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        byte_of[is_visible ? b : next++] = (int16_t)b;
    }
}

/* The bytes that a token stands for; 0: it has another letter in it. out has room for the name. */
static size_t to_bytes(const int16_t byte_of[ALPHABET], const char *name, char *out)
{
    const size_t n = strlen(name);
    size_t used = 0;

    for (size_t at = 0; at < n;) {
        uint32_t code;
        at += fz_utf8_step(name + at, n - at, &code);
        if (code >= ALPHABET || byte_of[code] < 0) return 0;
        out[used++] = (char)(unsigned char)byte_of[code];
    }
    return used;
}

/* ---- vocabulary ---- */

static int32_t id_of(const reading *r, const char *name)
{
    const json_t *id = json_object_get(r->vocab, name);

    return id ? (int32_t)json_integer_value(id) : -1;
}

/* room: for that many added tokens. */
static fz_status read_vocab(reading *r, int64_t room)
{
    const char *name;
    json_t *item;

    FZ_CHECK(json_is_object(r->vocab) && json_object_size(r->vocab) > 0, FZ_ERR_FORMAT,
             "the vocabulary is no object with tokens");
    r->n_vocab = r->n_tokens = (int64_t)json_object_size(r->vocab);
    FZ_CHECK(r->n_vocab < INT32_MAX / 4, FZ_ERR_FORMAT, "%lld tokens are too many",
             (long long)r->n_vocab);
    FZ_TRY(FZ_NEW(&r->names, r->n_vocab + room));
    FZ_TRY(FZ_NEW(&r->bpe->added.list, room + 8)); /* BART's specials among them */
    json_object_foreach(r->vocab, name, item)
    {
        const json_int_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        FZ_CHECK(id >= 0, FZ_ERR_FORMAT, "token \"%.60s\" has no id", name);
        FZ_CHECK(
            id < r->n_vocab, FZ_ERR_FORMAT,
            "token \"%.60s\" has id %lld, but there are %lld tokens: ids are 0, 1, 2 and so on",
            name, (long long)id, (long long)r->n_vocab);
        FZ_CHECK(r->names[id] == NULL, FZ_ERR_FORMAT,
                 "tokens \"%.60s\" and \"%.60s\" both have id %lld", r->names[id], name,
                 (long long)id);
        r->names[id] = name;
    }
    return FZ_OK;
}

static fz_status read_alphabet(reading *r)
{
    for (int code = 0; code < ALPHABET; code++) {
        char letter[5] = "";
        if (r->byte_of[code] < 0) continue;
        fz_utf8_put((uint32_t)code, letter);
        const int32_t id = id_of(r, letter);
        FZ_CHECK(id >= 0, FZ_ERR_FORMAT,
                 "the vocabulary has no token \"%s\" for byte 0x%02x: not a byte-level BPE", letter,
                 (unsigned)r->byte_of[code]);
        r->bpe->byte_id[r->byte_of[code]] = id;
    }
    return FZ_OK;
}

/* ---- merges ---- */

static fz_status add_merge(reading *r, int32_t rank, const char *left, size_t n_left,
                           const char *right)
{
    char joined[4096];
    const int n = snprintf(joined, sizeof joined, "%.*s", (int)n_left, left);

    FZ_CHECK(n_left + strlen(right) < sizeof joined, FZ_ERR_FORMAT, "merge %d is too long", rank);
    const int32_t l = id_of(r, joined), right_id = id_of(r, right);
    FZ_CHECK(l >= 0 && right_id >= 0, FZ_ERR_FORMAT,
             "merge %d, \"%.60s %.60s\": the vocabulary has no token \"%.60s\"", rank, joined,
             right, l < 0 ? joined : right);
    snprintf(joined + n, sizeof joined - (size_t)n, "%s", right);
    const int32_t id = id_of(r, joined);
    FZ_CHECK(id >= 0, FZ_ERR_FORMAT, "merge %d makes \"%.60s\", which the vocabulary does not have",
             rank, joined);
    /* The library lets a pair that is there twice have the later rank. */
    *fz_merges_find(r->bpe, l, right_id) = (fz_merge){l, right_id, rank, id};
    return FZ_OK;
}

/* "left right", one space. */
static fz_status add_merge_line(reading *r, int32_t rank, const char *line)
{
    const char *space = strchr(line, ' ');

    FZ_CHECK(space != NULL && space > line && space[1] != '\0' && !strchr(space + 1, ' '),
             FZ_ERR_FORMAT, "merge %d, \"%.60s\": not two tokens and a space between them", rank,
             line);
    return add_merge(r, rank, line, (size_t)(space - line), space + 1);
}

static fz_status read_merges(reading *r, const json_t *merges)
{
    FZ_CHECK(json_is_array(merges), FZ_ERR_FORMAT, "the merges are no list");
    FZ_TRY(fz_merges_create(r->bpe, (int64_t)json_array_size(merges)));
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *item = json_array_get(merges, i);
        const char *left = json_string_value(json_array_get(item, 0));
        const char *right = json_string_value(json_array_get(item, 1));
        if (json_is_string(item)) {
            FZ_TRY(add_merge_line(r, (int32_t)i, json_string_value(item)));
            continue;
        }
        FZ_CHECK(left && right && json_array_size(item) == 2, FZ_ERR_FORMAT,
                 "merge %zu is neither \"left right\" nor [\"left\", \"right\"]", i);
        FZ_TRY(add_merge(r, (int32_t)i, left, strlen(left), right));
    }
    return FZ_OK;
}

/* merges.txt as a list of its lines, without "#version: 0.2". */
static fz_status read_lines(const char *path, json_t **list_p)
{
    fz_buffer buffer = {0};
    size_t n = 0;
    json_t *list = json_array();
    fz_status status = fz_buffer_read_file(path, &buffer, &n);
    const char *text = buffer.bytes;

    for (size_t at = 0; status == FZ_OK && at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        const size_t line = end ? (size_t)(end - text) - at : n - at;
        const size_t length = line > 0 && text[at + line - 1] == '\r' ? line - 1 : line;
        if (length > 0 && strncmp(text + at, "#version", 8) != 0 &&
            json_array_append_new(list, json_stringn(text + at, length)) != 0)
            status = FZ_FAIL(FZ_ERR_FORMAT, "%s: line %zu is not UTF-8", path,
                             json_array_size(list) + 1);
        at += line + 1;
    }
    fz_buffer_reset(&buffer);
    if (status != FZ_OK) {
        json_decref(list);
        return status;
    }
    *list_p = list;
    return FZ_OK;
}

/* ---- added tokens ---- */

static bool flag(const json_t *item, const char *key)
{
    return json_is_true(json_object_get(item, key));
}

/* id < 0: the next one. */
static fz_status add_token(reading *r, const fz_added *token, const char *name)
{
    const int32_t known = id_of(r, name), id = token->id < 0 ? (int32_t)r->n_tokens : token->id;
    fz_added_set *set = &r->bpe->added;

    FZ_CHECK(known < 0 || known == id, FZ_ERR_FORMAT,
             "added token \"%.60s\" has id %d, but the vocabulary gives it %d", name, id, known);
    FZ_CHECK(known >= 0 || id == r->n_tokens, FZ_ERR_FORMAT,
             "added token \"%.60s\" has id %d; the next free one is %lld", name, id,
             (long long)r->n_tokens);
    for (int64_t i = 0; i < set->n; i++)
        FZ_CHECK(set->list[i].id != id, FZ_ERR_FORMAT, "added token \"%.60s\" is there twice",
                 name);
    fz_added *added = &set->list[set->n];
    *added = *token;
    added->id = id;
    added->n = strlen(name);
    FZ_TRY(fz_strdup(&added->content, name));
    set->n++;
    if (known < 0) r->names[r->n_tokens++] = name;
    return FZ_OK;
}

static fz_status read_added(reading *r, const json_t *list)
{
    FZ_CHECK(list == NULL || json_is_array(list), FZ_ERR_FORMAT, "added_tokens is no list");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i), *id = json_object_get(item, "id");
        const char *name = json_string_value(json_object_get(item, "content"));
        FZ_CHECK(name && name[0] && json_is_integer(id) && json_integer_value(id) >= 0 &&
                     json_integer_value(id) < INT32_MAX,
                 FZ_ERR_FORMAT, "added_tokens[%zu] has no content and id", i);
        FZ_TRY(add_token(r,
                         &(fz_added){.id = (int32_t)json_integer_value(id),
                                     .single_word = flag(item, "single_word"),
                                     .lstrip = flag(item, "lstrip"),
                                     .rstrip = flag(item, "rstrip"),
                                     .is_late = flag(item, "normalized"),
                                     .is_special = flag(item, "special")},
                         name));
    }
    return FZ_OK;
}

/* added_tokens.json: {"<od>": 50265, ...} in any order. */
static fz_status read_added_file(reading *r)
{
    const int64_t n = (int64_t)json_object_size(r->more);
    const char **order = NULL, *name;
    json_t *item;
    fz_status status = FZ_NEW(&order, n);

    json_object_foreach(r->more, name, item)
    {
        const int64_t id = json_is_integer(item) ? json_integer_value(item) : -1;
        const int64_t place = id - r->n_vocab;
        if (status != FZ_OK) break;
        if (id >= 0 && id_of(r, name) == id) continue; /* in the vocabulary already */
        if (!name[0] || place < 0 || place >= n || order[place])
            status =
                FZ_FAIL(FZ_ERR_FORMAT,
                        "added_tokens.json: token \"%.60s\" has id %lld, which is not its own or "
                        "leaves a hole behind the vocabulary of %lld",
                        name, (long long)id, (long long)r->n_vocab);
        else
            order[place] = name;
    }
    for (int64_t i = 0; status == FZ_OK && i < n && order[i]; i++)
        status = add_token(r, &(fz_added){.id = (int32_t)(r->n_vocab + i), .is_special = true},
                           order[i]);
    fz_free(&order);
    return status;
}

/* Beside vocab.json nothing says which tokens are special: BART's are, and what was added. */
static fz_status read_added_beside(reading *r)
{
    static const char *const names[] = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (id_of(r, names[i]) >= 0)
            FZ_TRY(add_token(r,
                             &(fz_added){.id = id_of(r, names[i]),
                                         .lstrip = strcmp(names[i], "<mask>") == 0,
                                         .is_special = true},
                             names[i]));
    return read_added_file(r);
}

/* ---- what BART's vocabulary becomes in Florence-2 ---- */

static fz_status add_florence(reading *r)
{
    static const char *const before[] = {"<od>", "</od>", "<ocr>", "</ocr>"};
    static const char *const behind[] = {"<cap>",
                                         "</cap>",
                                         "<ncap>",
                                         "</ncap>",
                                         "<dcap>",
                                         "</dcap>",
                                         "<grounding>",
                                         "</grounding>",
                                         "<seg>",
                                         "</seg>",
                                         "<sep>",
                                         "<region_cap>",
                                         "</region_cap>",
                                         "<region_to_desciption>",
                                         "</region_to_desciption>",
                                         "<proposal>",
                                         "</proposal>",
                                         "<poly>",
                                         "</poly>",
                                         "<and>"};

    if (r->n_tokens != BART_TOKENS || id_of(r, "<mask>") != BART_TOKENS - 1) return FZ_OK;
    FZ_TRY(FZ_NEW(&r->florence, FLORENCE_TOKENS));
    for (int i = 0; i < FLORENCE_TOKENS; i++) {
        char *name = r->florence[i];
        if (i < 4)
            snprintf(name, sizeof *r->florence, "%s", before[i]);
        else if (i < 1004)
            snprintf(name, sizeof *r->florence, "<loc_%d>", i - 4);
        else
            snprintf(name, sizeof *r->florence, "%s", behind[i - 1004]);
        FZ_TRY(add_token(r, &(fz_added){.id = -1, .is_special = true}, name));
    }
    return FZ_OK;
}

/* ---- the whole ---- */

/* NULL, JSON's null and, for texts, "" say the same: not there. */
static bool is_absent(const json_t *item)
{
    return item == NULL || json_is_null(item) || json_is_false(item) ||
           (json_is_string(item) && json_string_length(item) == 0);
}

static const char *type_of(const json_t *item)
{
    const char *type = json_string_value(json_object_get(item, "type"));

    return type ? type : "without a type";
}

/* Only what gives the ids of the library is let through. */
static fz_status check_kind(const json_t *root)
{
    static const char *const unknown[] = {"dropout", "continuing_subword_prefix",
                                          "end_of_word_suffix", "ignore_merges"};
    const json_t *model = json_object_get(root, "model"),
                 *normalizer = json_object_get(root, "normalizer"),
                 *cut = json_object_get(root, "pre_tokenizer"),
                 *decoder = json_object_get(root, "decoder");

    FZ_CHECK(
        !json_object_get(model, "type") || strcmp(type_of(model), "BPE") == 0, FZ_ERR_FORMAT,
        "model %s: only byte-level BPE is supported (a SentencePiece tokenizer is read from its "
        "tokenizer.model)",
        type_of(model));
    FZ_CHECK(
        is_absent(normalizer), FZ_ERR_FORMAT,
        "normalizer %s: only byte-level BPE without one is supported (a SentencePiece tokenizer "
        "is read from its tokenizer.model)",
        type_of(normalizer));
    FZ_CHECK(strcmp(type_of(cut), "ByteLevel") == 0, FZ_ERR_FORMAT,
             "pre_tokenizer %s: only ByteLevel is supported", type_of(cut));
    FZ_CHECK(json_is_false(json_object_get(cut, "add_prefix_space")), FZ_ERR_FORMAT,
             "pre_tokenizer: only add_prefix_space false is supported");
    FZ_CHECK(!json_is_false(json_object_get(cut, "use_regex")), FZ_ERR_FORMAT,
             "pre_tokenizer: only use_regex true is supported");
    FZ_CHECK(is_absent(decoder) || strcmp(type_of(decoder), "ByteLevel") == 0, FZ_ERR_FORMAT,
             "decoder %s: only ByteLevel is supported", type_of(decoder));
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        FZ_CHECK(is_absent(json_object_get(model, unknown[i])), FZ_ERR_FORMAT,
                 "model: %s is not supported", unknown[i]);
    return FZ_OK;
}

static fz_status read_json(const char *path, json_t **root_p)
{
    fz_buffer buffer = {0};
    json_error_t error;
    size_t n = 0;

    FZ_TRY(fz_buffer_read_file(path, &buffer, &n));
    *root_p = json_loadb(buffer.bytes, n, JSON_REJECT_DUPLICATES, &error);
    fz_buffer_reset(&buffer);
    const char *slash = strrchr(path, '/');
    FZ_CHECK(*root_p != NULL, FZ_ERR_FORMAT, "%s: not JSON: line %d: %s", slash ? slash + 1 : path,
             error.line, error.text);
    return FZ_OK;
}

/* path of another file in the folder of r->path. */
static fz_status beside(const reading *r, const char *name, char path[PATH_MAX])
{
    const char *slash = strrchr(r->path, '/');
    const int n = slash ? (int)(slash - r->path) + 1 : 0;

    FZ_CHECK(snprintf(path, PATH_MAX, "%.*s%s", n, r->path, name) < PATH_MAX, FZ_ERR_ARG,
             "the path is too long");
    return FZ_OK;
}

static fz_status read_pair(reading *r)
{
    char path[PATH_MAX];

    FZ_TRY(beside(r, "added_tokens.json", path));
    if (access(path, F_OK) == 0) FZ_TRY(read_json(path, &r->more));
    FZ_CHECK(r->more == NULL || json_is_object(r->more), FZ_ERR_FORMAT,
             "added_tokens.json is no object");
    r->vocab = r->root;
    FZ_TRY(beside(r, "merges.txt", path));
    FZ_TRY(read_lines(path, &r->pairs));
    FZ_TRY(read_vocab(r, (int64_t)json_object_size(r->more) + FLORENCE_TOKENS));
    FZ_TRY(read_alphabet(r));
    FZ_TRY(read_merges(r, r->pairs));
    return read_added_beside(r);
}

static fz_status read_whole(reading *r, const json_t *model)
{
    const json_t *added = json_object_get(r->root, "added_tokens");

    FZ_TRY(check_kind(r->root));
    r->vocab = json_object_get(model, "vocab");
    FZ_TRY(read_vocab(r, (int64_t)json_array_size(added) + FLORENCE_TOKENS));
    FZ_TRY(read_alphabet(r));
    FZ_TRY(read_merges(r, json_object_get(model, "merges")));
    return read_added(r, added);
}

/* The tokens' bytes behind each other. */
static fz_status pack(const reading *r)
{
    fz_bpe *bpe = r->bpe;
    size_t total = 0;

    for (int64_t i = 0; i < r->n_tokens; i++)
        total += strlen(r->names[i]);
    FZ_TRY(FZ_NEW(&bpe->bytes, total + 1));
    FZ_TRY(FZ_NEW(&bpe->start, r->n_tokens + 1));
    FZ_TRY(FZ_NEW(&bpe->is_special, r->n_tokens));
    bpe->n_tokens = r->n_tokens;
    for (int64_t i = 0; i < r->n_tokens; i++) {
        char *out = bpe->bytes + bpe->start[i];
        size_t n = to_bytes(r->byte_of, r->names[i], out);
        /* A token with another letter in it is text as it stands; so says the library. */
        if (n == 0) memcpy(out, r->names[i], n = strlen(r->names[i]));
        bpe->start[i + 1] = bpe->start[i] + (int64_t)n;
    }
    for (int64_t i = 0; i < bpe->added.n; i++)
        bpe->is_special[bpe->added.list[i].id] = bpe->added.list[i].is_special;
    fz_added_sort(&bpe->added);
    return FZ_OK;
}

static fz_status read_all(reading *r)
{
    FZ_TRY(read_json(r->path, &r->root));
    FZ_CHECK(json_is_object(r->root), FZ_ERR_FORMAT, "no object with a vocabulary");
    const json_t *model = json_object_get(r->root, "model");

    FZ_TRY(FZ_NEW(&r->bpe, 1));
    FZ_TRY(fz_bpe_compile(r->bpe));
    make_alphabet(r->byte_of);
    FZ_TRY(json_is_object(model) ? read_whole(r, model) : read_pair(r));
    FZ_TRY(add_florence(r));
    return pack(r);
}

fz_status fz_bpe_load(const char *path, fz_bpe **bpe_p)
{
    reading r = {.path = path};
    fz_status status = read_all(&r);

    json_decref(r.root);
    json_decref(r.more);
    json_decref(r.pairs);
    fz_free(&r.names);
    fz_free(&r.florence);
    if (status == FZ_OK) {
        *bpe_p = r.bpe;
        return FZ_OK;
    }
    fz_bpe_destroy(&r.bpe);
    return FZ_FAIL(status, "tokenizer %s: %s", path, fz_last_error()->text);
}

#endif
