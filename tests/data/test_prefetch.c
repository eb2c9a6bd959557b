#include "fixtures.h"

#include <pthread.h>

#include "data/prefetch.h"

/* What the workers did, in order; item 999 waits until the gate is opened. */
typedef struct record {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_open;
    int n, n_begun;
    int slot[64];
    int64_t item[64];
} record;

static void note(void *context, int thread, int slot, int64_t item)
{
    record *r = context;

    (void)thread;
    pthread_mutex_lock(&r->lock);
    r->n_begun++;
    pthread_cond_broadcast(&r->changed);
    while (item == 999 && !r->is_open)
        pthread_cond_wait(&r->changed, &r->lock);
    r->slot[r->n] = slot;
    r->item[r->n++] = item;
    pthread_mutex_unlock(&r->lock);
}

static void wait_until_begun(record *r, int n)
{
    pthread_mutex_lock(&r->lock);
    while (r->n_begun < n)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

static void open_gate(record *r)
{
    pthread_mutex_lock(&r->lock);
    r->is_open = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void init_record(record *r)
{
    memset(r, 0, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
}

static const int32_t gate[1] = {999}, numbers[4] = {7, 5, 6, 4};

static void the_nearest_step_is_worked_on_first(void **state)
{
    fz_prefetch *prefetch = NULL;
    record r;

    (void)state;
    init_record(&r);
    assert_ok(fz_prefetch_create(1, 3, 4, note, &r, &prefetch));
    fz_prefetch_put(prefetch, 2, 1, gate, 1); /* keeps the only thread busy */
    wait_until_begun(&r, 1);
    fz_prefetch_put(prefetch, 0, 30, numbers, 4);
    fz_prefetch_put(prefetch, 1, 20, numbers, 4);
    open_gate(&r);
    fz_prefetch_wait(prefetch, 0);
    assert_int_equal(r.n, 9);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(r.slot[1 + i], 1);
        assert_int_equal(r.item[1 + i], numbers[i]);
        assert_int_equal(r.slot[5 + i], 0);
    }
    fz_prefetch_destroy(&prefetch);
}

static void cancelling_drops_what_has_not_begun(void **state)
{
    fz_prefetch *prefetch = NULL;
    record r;

    (void)state;
    init_record(&r);
    assert_ok(fz_prefetch_create(1, 2, 4, note, &r, &prefetch));
    fz_prefetch_put(prefetch, 0, 1, gate, 1);
    wait_until_begun(&r, 1);
    fz_prefetch_put(prefetch, 1, 2, numbers, 4);
    fz_prefetch_cancel(prefetch, 1);
    open_gate(&r);
    fz_prefetch_cancel(prefetch, 0); /* begun: waited for */
    assert_int_equal(r.n, 1);
    fz_prefetch_put(prefetch, 1, 2, numbers, 2);
    fz_prefetch_wait(prefetch, 1);
    assert_int_equal(r.n, 3);
    fz_prefetch_destroy(&prefetch);
}

static void without_threads_waiting_does_the_work(void **state)
{
    fz_prefetch *prefetch = NULL;
    record r;

    (void)state;
    init_record(&r);
    assert_ok(fz_prefetch_create(0, 2, 4, note, &r, &prefetch));
    fz_prefetch_put(prefetch, 0, 1, numbers, 4);
    fz_prefetch_put(prefetch, 1, 2, numbers, 3);
    assert_int_equal(r.n, 0);
    fz_prefetch_wait(prefetch, 1);
    assert_int_equal(r.n, 3); /* only what was waited for */
    fz_prefetch_put(prefetch, 1, 2, numbers, 0);
    fz_prefetch_wait(prefetch, 1);
    fz_prefetch_destroy(&prefetch); /* with work left over */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nearest_step_is_worked_on_first),
        cmocka_unit_test(cancelling_drops_what_has_not_begun),
        cmocka_unit_test(without_threads_waiting_does_the_work),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
