#include "data/bpe.h"

#if FZ_HAVE_PCRE2

#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "data/bpe_internal.h"
#include "data/utf8.h"

/* ---- merges ---- */

fz_status fz_merges_create(fz_bpe *bpe, int64_t n)
{
    bpe->n_slots = 64;
    while (bpe->n_slots < 2 * n)
        bpe->n_slots *= 2;
    FZ_TRY(FZ_NEW(&bpe->merges, bpe->n_slots));
    for (uint32_t i = 0; i < bpe->n_slots; i++)
        bpe->merges[i].rank = -1;
    return FZ_OK;
}

fz_merge *fz_merges_find(const fz_bpe *bpe, int32_t left, int32_t right)
{
    const uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    /* Fibonacci hashing: the high bits of a product with 2^64 over the golden ratio. */
    uint32_t at = (uint32_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (bpe->n_slots - 1);

    for (;; at = (at + 1) & (bpe->n_slots - 1)) {
        fz_merge *merge = &bpe->merges[at];
        if (merge->rank < 0 || (merge->left == left && merge->right == right)) return merge;
    }
}

/* ---- one piece of text: its bytes, merged ---- */

typedef struct symbol {
    int32_t id; /* -1: merged into the one before */
    int32_t prev, next;
} symbol;

typedef struct candidate {
    int32_t rank, at, id;
} candidate;

/* Pieces are short as a rule; a longer one has memory of its own for as long as it is worked on. */
enum { FEW = 96 };

typedef struct piece {
    symbol *symbols;
    candidate *heap; /* least rank first, then leftmost */
    int64_t n_heap;
    symbol few_symbols[FEW];
    candidate few_candidates[3 * FEW];
} piece;

static bool is_before(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(piece *p, candidate c)
{
    int64_t at = p->n_heap++;

    for (; at > 0 && is_before(&c, &p->heap[(at - 1) / 2]); at = (at - 1) / 2)
        p->heap[at] = p->heap[(at - 1) / 2];
    p->heap[at] = c;
}

static candidate heap_pop(piece *p)
{
    const candidate first = p->heap[0], last = p->heap[--p->n_heap];
    int64_t at = 0;

    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= p->n_heap) break;
        if (child + 1 < p->n_heap && is_before(&p->heap[child + 1], &p->heap[child])) child++;
        if (!is_before(&p->heap[child], &last)) break;
        p->heap[at] = p->heap[child];
        at = child;
    }
    if (p->n_heap > 0) p->heap[at] = last;
    return first;
}

static void propose(const fz_bpe *bpe, piece *p, int32_t at)
{
    if (at < 0 || p->symbols[at].next < 0) return;
    const fz_merge *merge =
        fz_merges_find(bpe, p->symbols[at].id, p->symbols[p->symbols[at].next].id);
    if (merge->rank >= 0) heap_push(p, (candidate){merge->rank, at, merge->id});
}

/* n symbols; at most n - 1 proposals at first and two after each of at most n - 1 merges. */
static void merge_all(const fz_bpe *bpe, piece *p, int32_t n)
{
    for (int32_t i = 0; i + 1 < n; i++)
        propose(bpe, p, i);
    while (p->n_heap > 0) {
        const candidate c = heap_pop(p);
        symbol *left = &p->symbols[c.at];
        if (left->id < 0 || left->next < 0) continue;
        symbol *right = &p->symbols[left->next];
        /* A proposal is stale if its pair has changed since; the library judges by the outcome. */
        const fz_merge *merge = fz_merges_find(bpe, left->id, right->id);
        if (merge->rank < 0 || merge->id != c.id) continue;
        left->id = c.id;
        right->id = -1;
        left->next = right->next;
        if (left->next >= 0) p->symbols[left->next].prev = c.at;
        propose(bpe, p, left->prev);
        propose(bpe, p, c.at);
    }
}

/* Where ids go; full when n == max. */
typedef struct sink {
    const fz_bpe *bpe;
    int32_t *ids;
    int64_t n, max;
    pcre2_match_data *match; /* owned */
} sink;

static fz_status put_piece(sink *out, const char *text, size_t n)
{
    piece p;
    void *memory = NULL;

    p.symbols = p.few_symbols;
    p.heap = p.few_candidates;
    p.n_heap = 0;
    if (n > FEW) {
        FZ_TRY(fz_alloc(&memory, n * (sizeof(symbol) + 3 * sizeof(candidate)), "a long word"));
        p.symbols = memory;
        p.heap = (candidate *)(p.symbols + n);
    }
    for (size_t i = 0; i < n; i++)
        p.symbols[i] = (symbol){out->bpe->byte_id[(unsigned char)text[i]], (int32_t)i - 1,
                                i + 1 < n ? (int32_t)i + 1 : -1};
    merge_all(out->bpe, &p, (int32_t)n);
    for (int32_t i = 0; i >= 0 && out->n < out->max; i = p.symbols[i].next)
        out->ids[out->n++] = p.symbols[i].id;
    fz_free(&memory);
    return FZ_OK;
}

/* ---- text ---- */

static fz_status put_pieces(sink *out, const char *text, size_t n)
{
    for (size_t at = 0; at < n && out->n < out->max;) {
        const int found = pcre2_match(out->bpe->pattern, (PCRE2_SPTR)text, n, at,
                                      PCRE2_NO_UTF_CHECK, out->match, NULL);
        FZ_CHECK(found > 0, FZ_ERR_FORMAT, "tokenize \"%.80s\": PCRE2 error %d", text + at, found);
        const size_t stop = pcre2_get_ovector_pointer(out->match)[1];
        FZ_TRY(put_piece(out, text + at, stop - at));
        at = stop;
    }
    return FZ_OK;
}

/* Cuts at added tokens, the early ones first and then, in what they left, the late ones. */
static fz_status put_text(sink *out, bool is_late, const char *text, size_t n)
{
    fz_added_scan scan = {&out->bpe->added, is_late, text, n, 0, 0, out->match};

    while (scan.from < n && out->n < out->max) {
        const size_t from = scan.from;
        const fz_added_match match = fz_added_next(&scan);
        if (match.start > from) {
            if (is_late)
                FZ_TRY(put_pieces(out, text + from, match.start - from));
            else
                FZ_TRY(put_text(out, true, text + from, match.start - from));
        }
        if (match.token == NULL) break;
        if (out->n < out->max) out->ids[out->n++] = match.token->id;
    }
    return FZ_OK;
}

fz_status fz_bpe_encode(const fz_bpe *bpe, const char *text, int32_t *ids, int64_t max,
                        int64_t *n_p)
{
    const size_t n = strlen(text);
    sink out = {.bpe = bpe, .ids = ids, .max = max};

    FZ_CHECK(n < INT32_MAX, FZ_ERR_ARG, "tokenize: a text of %zu bytes is too long", n);
    out.match = pcre2_match_data_create(1, NULL);
    FZ_CHECK(out.match != NULL, FZ_ERR_MEMORY, "tokenize: PCRE2 has no memory");
    const fz_status status = put_text(&out, false, text, n);
    pcre2_match_data_free(out.match);
    if (status == FZ_OK) *n_p = out.n;
    return status;
}

/* ---- back ---- */

const char *fz_bpe_piece(const fz_bpe *bpe, int32_t id, size_t *n_p)
{
    *n_p = (size_t)(bpe->start[id + 1] - bpe->start[id]);
    return bpe->bytes + bpe->start[id];
}

fz_status fz_bpe_decode(const fz_bpe *bpe, const int32_t *ids, int64_t n, char *out, size_t bytes)
{
    char *joined = NULL;
    size_t total = 0, length;

    for (int64_t i = 0; i < n; i++)
        total += (size_t)(bpe->start[ids[i] + 1] - bpe->start[ids[i]]);
    FZ_TRY(fz_alloc((void **)&joined, total + 1, "decoded bytes"));
    total = 0;
    for (int64_t i = 0; i < n; i++) {
        if (bpe->is_special[ids[i]]) continue;
        const char *token = fz_bpe_piece(bpe, ids[i], &length);
        memcpy(joined + total, token, length);
        total += length;
    }
    fz_utf8_copy(joined, total, out, bytes);
    fz_free(&joined);
    return FZ_OK;
}

int64_t fz_bpe_size(const fz_bpe *bpe)
{
    return bpe->n_tokens;
}

int32_t fz_bpe_id(const fz_bpe *bpe, const char *name)
{
    for (int64_t i = 0; i < bpe->added.n; i++)
        if (strcmp(bpe->added.list[i].content, name) == 0) return bpe->added.list[i].id;
    return -1;
}

void fz_bpe_destroy(fz_bpe **bpe)
{
    fz_bpe *b = *bpe;

    if (b == NULL) return;
    fz_free(&b->bytes);
    fz_free(&b->start);
    fz_free(&b->is_special);
    fz_free(&b->merges);
    fz_added_reset(&b->added);
    pcre2_code_free(b->pattern);
    fz_free(bpe);
}

#endif
