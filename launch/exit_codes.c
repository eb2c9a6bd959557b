#include "launch/exit_codes.h"

#include "core/log.h"

int fz_exit_code(fz_status status, bool can_continue)
{
    switch (status) {
    case FZ_OK:
        return FZ_EXIT_DONE;
    case FZ_ERR_ARG:
        return FZ_EXIT_BUG;
    case FZ_ERR_USAGE:
        return FZ_EXIT_USAGE;
    case FZ_ERR_FORMAT:
        return FZ_EXIT_DATA;
    case FZ_ERR_IO:
    case FZ_ERR_MEMORY:
    case FZ_ERR_DEVICE:
    case FZ_ERR_COMM:
        return can_continue ? FZ_EXIT_AGAIN : FZ_EXIT_SYSTEM;
    }
    return FZ_EXIT_BUG;
}

int fz_exit_with(fz_status status, bool can_continue)
{
    if (status != FZ_OK && fz_log_is_writer()) {
        const fz_error *error = fz_last_error();
        fz_log_set_rank(-1); /* an agreed text names its rank itself */
        if (status == FZ_ERR_ARG)
            fz_log(FZ_LOG_ERROR, "%s (bug: %s:%d %s)", error->text, error->file, error->line,
                   error->func);
        else
            fz_log(FZ_LOG_ERROR, "%s", error->text);
    }
    return fz_exit_code(status, can_continue);
}
