#include "core/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_rank = -1;
static bool log_writes_info = true; /* until a world exists, this process is the only one */
static fz_log_level log_least = FZ_LOG_INFO;
static FILE *log_file;
static bool has_progress; /* a line without its end stands on the terminal */

void fz_log_set_rank(int rank)
{
    log_rank = rank;
}

void fz_log_set_writer(bool writes_info)
{
    log_writes_info = writes_info;
}

bool fz_log_is_writer(void)
{
    return log_writes_info;
}

void fz_log_set_level(fz_log_level least)
{
    log_least = least;
}

static void clear_progress(void)
{
    if (has_progress) fputs("\r\033[K", stderr);
    has_progress = false;
}

void fz_log_progress(const char *text)
{
    pthread_mutex_lock(&lock);
    clear_progress();
    if (text) fputs(text, stderr);
    has_progress = text != NULL;
    fflush(stderr);
    pthread_mutex_unlock(&lock);
}

void fz_log_to_file(const char *format, ...)
{
    va_list args;
    pthread_mutex_lock(&lock);
    if (log_file && log_writes_info && log_least <= FZ_LOG_INFO) {
        va_start(args, format);
        vfprintf(log_file, format, args);
        va_end(args);
        fputc('\n', log_file);
        fflush(log_file);
    }
    pthread_mutex_unlock(&lock);
}

void fz_log(fz_log_level level, const char *format, ...)
{
    static const char *const prefix[] = {"debug: ", "", "florenz: warning: ", "florenz: error: "};
    if (level < log_least || (level <= FZ_LOG_INFO && !log_writes_info)) return;

    char text[2048], rank[32] = "";
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (level >= FZ_LOG_WARN && log_rank >= 0) snprintf(rank, sizeof rank, "rank %d: ", log_rank);

    pthread_mutex_lock(&lock);
    clear_progress();
    fprintf(stderr, "%s%s%s\n", prefix[level], rank, text);
    if (log_file) {
        fprintf(log_file, "%s%s%s\n", prefix[level], rank, text);
        fflush(log_file);
    }
    pthread_mutex_unlock(&lock);
}

fz_status fz_log_open(const char *path)
{
    FILE *file = NULL;
    if (path) {
        file = fopen(path, "a");
        FZ_CHECK(file, FZ_ERR_IO, "open %s: %s", path, strerror(errno));
    }
    pthread_mutex_lock(&lock);
    if (log_file) fclose(log_file);
    log_file = file;
    pthread_mutex_unlock(&lock);
    return FZ_OK;
}
