#include "launch/signals.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static volatile sig_atomic_t got;

static void note(int number)
{
    if (!got) got = number;
    /* Somebody at a terminal who presses ^C twice does not want to wait for the step. */
    if (number == SIGINT) signal(SIGINT, SIG_DFL);
}

fz_status fz_signals_start(void)
{
    static const int numbers[] = {SIGUSR1, SIGTERM, SIGINT};
    struct sigaction action = {.sa_handler = note, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    got = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        FZ_CHECK(sigaction(numbers[i], &action, NULL) == 0, FZ_ERR_IO, "catch %s: %s",
                 fz_signal_name(numbers[i]), strerror(errno));
    return FZ_OK;
}

int fz_signals_got(void)
{
    return (int)got;
}

const char *fz_signal_name(int number)
{
    switch (number) {
    case SIGUSR1:
        return "SIGUSR1";
    case SIGTERM:
        return "SIGTERM";
    case SIGINT:
        return "SIGINT";
    default:
        return "a signal";
    }
}
