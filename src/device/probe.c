/* Probes: tiny programs that are built, run and checked once, and whose verdict is remembered on disk. */
#include "config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cl_sources.h"
#include "device/cache.h"
#include "device/probe.h"

static cl_int run(const struct device *device, const struct probe *probe, cl_kernel kernel,
                  cl_mem buffer)
{
    cl_int code = clSetKernelArg(kernel, 0, sizeof buffer, &buffer);
    if (code == CL_SUCCESS && probe->local_bytes > 0)
        code = clSetKernelArg(kernel, 1, probe->local_bytes, NULL);
    if (code == CL_SUCCESS)
        code = clEnqueueWriteBuffer(device->queue, buffer, CL_TRUE, 0, probe->bytes, probe->numbers,
                                    0, NULL, NULL);
    if (code == CL_SUCCESS)
        code = clEnqueueNDRangeKernel(device->queue, kernel, 1, NULL, &probe->items, &probe->items,
                                      0, NULL, NULL);
    if (code == CL_SUCCESS)
        code = clEnqueueReadBuffer(device->queue, buffer, CL_TRUE, 0, probe->bytes, probe->numbers,
                                   0, NULL, NULL);
    return code;
}

static int build_and_run(qn_context *context, const struct probe *probe)
{
    const struct device *device = context->device;
    struct qn_counters before = context->counters;
    cl_kernel kernel;
    int status = device_kernels(
        context, &(struct kernel_key){&probe->source, "probe", probe->defines}, 1, &kernel);
    context->counters = before;
    if (status != QN_OK)
        return status;
    cl_int code;
    cl_mem buffer = clCreateBuffer(device->cl, CL_MEM_READ_WRITE, probe->bytes, NULL, &code);
    if (buffer) {
        code = run(device, probe, kernel, buffer);
        clReleaseMemObject(buffer);
    }
    clReleaseKernel(kernel);
    status = device_check(context, code, "running a first kernel");
    return status == QN_OK ? probe->check(context, probe) : status;
}

/* Drivers call it resources what others took of the device for a moment, as well as what a kernel did that is not allowed: such a
 * verdict is told, but tried again. */
static const char for_now[] = "for now: ";

static struct digest verdict_name(const struct device_info *info, const struct qn_source *source,
                                  const char *defines)
{
    struct digest digest = digest_text(digest_text(digest_device(info), defines), source->text);
    return digest_text(digest, source_common.text);
}

bool probe_recall(const struct device_info *info, const struct qn_source *source,
                  const char *defines, char *verdict, size_t size)
{
    size_t bytes;
    char *found = cache_read(CACHE_DEVICE, verdict_name(info, source, defines), &bytes);
    bool is_settled = found && strncmp(found, for_now, sizeof for_now - 1) != 0;
    snprintf(verdict, size, "%s", !found ? "" : is_settled ? found : found + sizeof for_now - 1);
    free(found);
    return is_settled;
}

int probe_try(qn_context *context, const struct probe *probe)
{
    char verdict[sizeof context->error + sizeof for_now];
    struct device *device = context->device;
    device->error = CL_SUCCESS;
    int status = build_and_run(context, probe);
    if (status == QN_ERROR_MEMORY || status == QN_ERROR_DEVICE_MEMORY)
        return status;
    if (status == QN_OK)
        snprintf(verdict, sizeof verdict, "ok");
    else
        snprintf(verdict, sizeof verdict, "%s%s",
                 device->error == CL_OUT_OF_RESOURCES ? for_now : "", context->error);
    cache_write(CACHE_DEVICE, verdict_name(&device->info, &probe->source, probe->defines), verdict,
                strlen(verdict));
    return status;
}

/* ---- Whether it computes at all ---- */

static const struct qn_source first_source = {
    "probe.cl", "kernel void probe(global float *x, local float *shared)\n"
                "{\n"
                "    uint i = get_local_id(0), n = get_local_size(0);\n"
                "    shared[i] = x[i] * x[i];\n"
                "    barrier(CLK_LOCAL_MEM_FENCE);\n"
                "    x[i] = shared[n - 1 - i] + sqrt(x[i]);\n"
                "}\n"};

enum { FIRST_ITEMS = 8 };

static int check_first(qn_context *context, const struct probe *probe)
{
    const float *x = probe->numbers;
    for (size_t i = 0; i < probe->items; i++) {
        size_t mirrored = probe->items - 1 - i;
        float expected = (float)(mirrored * mirrored * mirrored * mirrored + i);
        if (!(fabsf(x[i] - expected) < 0.01f)) /* a NaN is not right either */
            return context_fail(context, QN_ERROR_DEVICE, "a first kernel computed %g, not %g",
                                x[i], expected);
    }
    return QN_OK;
}

bool device_probe_recall(const struct device_info *info, char *verdict, size_t size)
{
    return probe_recall(info, &first_source, "", verdict, size);
}

int device_probe(qn_context *context)
{
    char verdict[8];
    if (device_probe_recall(&context->device->info, verdict, sizeof verdict) &&
        strcmp(verdict, "ok") == 0)
        return QN_OK;
    size_t items = size_min(FIRST_ITEMS, context->device->info.caps.max_work_group);
    float x[FIRST_ITEMS];
    for (size_t i = 0; i < items; i++)
        x[i] = (float)(i * i);
    return probe_try(context, &(struct probe){.source = first_source,
                                              .defines = "",
                                              .items = items,
                                              .bytes = items * sizeof *x,
                                              .local_bytes = items * sizeof *x,
                                              .numbers = x,
                                              .check = check_first});
}
