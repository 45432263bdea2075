/* Where in a program a node was built: return addresses, which libdw turns into names and lines. */
#include "config.h"

#include "graph/origin.h"

#include <execinfo.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_LIBDW
#include <elfutils/libdwfl.h>
#endif

const struct qn_origin *origin_here(qn_graph *graph)
{
    struct qn_origin *origin = graph_alloc(graph, sizeof *origin);
    if (origin)
        origin->count = backtrace(origin->frames, ORIGIN_FRAMES);
    return origin;
}

const struct qn_origin *origin_copy(qn_graph *graph, const struct qn_origin *origin,
                                    bool is_gradient)
{
    struct qn_origin *copy = origin ? graph_alloc(graph, sizeof *copy) : NULL;
    if (copy) {
        *copy = *origin;
        copy->is_gradient = origin->is_gradient || is_gradient;
    }
    return copy;
}

/* ---- Names ---- */

enum { SHOWN = 5 };

/* What every node is made by, and what every program begins with. */
static bool is_shown(const char *name)
{
    return strcmp(name, "origin_here") != 0 && strcmp(name, "node_new") != 0 &&
           strcmp(name, "qn_node_new") != 0 && strncmp(name, "__libc_start", 12) != 0 &&
           strcmp(name, "_start") != 0;
}

#ifdef HAVE_LIBDW
static Dwfl *open_debug_information(void)
{
    static char *debug_path = NULL;
    static const Dwfl_Callbacks callbacks = {.find_elf = dwfl_linux_proc_find_elf,
                                             .find_debuginfo = dwfl_standard_find_debuginfo,
                                             .debuginfo_path = &debug_path};
    Dwfl *dwfl = dwfl_begin(&callbacks);
    if (dwfl &&
        (dwfl_linux_proc_report(dwfl, getpid()) != 0 || dwfl_report_end(dwfl, NULL, NULL) != 0)) {
        dwfl_end(dwfl);
        return NULL;
    }
    return dwfl;
}

const char *origin_text(const struct qn_origin *origin, char text[ORIGIN_TEXT])
{
    Dwfl *dwfl = origin ? open_debug_information() : NULL;
    size_t used = 0, shown = 0;
    text[0] = '\0';
    for (int i = 0; dwfl && i < origin->count && shown < SHOWN && used < ORIGIN_TEXT; i++) {
        Dwarf_Addr address = (Dwarf_Addr)(uintptr_t)origin->frames[i] - 1; /* in the call itself */
        Dwfl_Module *module = dwfl_addrmodule(dwfl, address);
        const char *name = module ? dwfl_module_addrname(module, address) : NULL;
        if (!name || !is_shown(name))
            continue;
        int number = 0;
        Dwfl_Line *line = dwfl_module_getsrc(module, address);
        const char *path = line ? dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
        const char *file = path ? strrchr(path, '/') : NULL;
        used += (size_t)snprintf(text + used, ORIGIN_TEXT - used, "%s%s", shown ? ", " : "", name);
        if (path && used < ORIGIN_TEXT)
            used += (size_t)snprintf(text + used, ORIGIN_TEXT - used, " at %s:%d",
                                     file ? file + 1 : path, number);
        shown++;
    }
    if (dwfl)
        dwfl_end(dwfl);
    return text;
}
#else
/* "path/file(name+0x12) [0x...]": names of functions that are exported. */
const char *origin_text(const struct qn_origin *origin, char text[ORIGIN_TEXT])
{
    char **symbols = origin ? backtrace_symbols(origin->frames, origin->count) : NULL;
    size_t used = 0, shown = 0;
    text[0] = '\0';
    for (int i = 0; symbols && i < origin->count && shown < SHOWN && used < ORIGIN_TEXT; i++) {
        char *name = strchr(symbols[i], '('), *end = name ? strpbrk(name, "+)") : NULL;
        if (!end || end == name + 1)
            continue;
        *end = '\0';
        if (!is_shown(name + 1))
            continue;
        used +=
            (size_t)snprintf(text + used, ORIGIN_TEXT - used, "%s%s", shown ? ", " : "", name + 1);
        shown++;
    }
    free(symbols);
    return text;
}
#endif
