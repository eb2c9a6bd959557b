#include "launch/nvtx.h"

#include <stddef.h>

#if FZ_HAVE_NVTX
#include <nvtx3/nvToolsExt.h>

#include "core/clock.h"

static void push(const char *name)
{
    nvtxRangePushA(name);
}

static void pop(void)
{
    nvtxRangePop();
}

bool fz_nvtx_attach(bool on)
{
    fz_span_set_tool(on ? push : NULL, on ? pop : NULL);
    return true;
}
#else
bool fz_nvtx_attach(bool on)
{
    (void)on;
    return false;
}
#endif
