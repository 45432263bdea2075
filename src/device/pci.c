/* Where a device is on the PCI bus, as far as its driver tells: what sensors of the system are found by. */
#include <stdio.h>

#include "device/device.h"

/* Extensions, of which headers may be older than drivers. */
enum {
    PCI_BUS_INFO_KHR = 0x410F,
    PCI_BUS_ID_NV = 0x4008,
    PCI_SLOT_ID_NV = 0x4009,
    PCI_DOMAIN_ID_NV = 0x400A,
    TOPOLOGY_AMD = 0x4037,
    TOPOLOGY_TYPE_PCIE_AMD = 1
};

struct address {
    cl_uint domain, bus, device, function; /* as cl_khr_pci_bus_info has them */
};

static bool query(const struct device_info *info, cl_device_info what, void *answer, size_t size)
{
    size_t given = 0;
    return clGetDeviceInfo(info->id, what, size, answer, &given) == CL_SUCCESS && given == size;
}

static bool query_khr(const struct device_info *info, struct address *address)
{
    return query(info, PCI_BUS_INFO_KHR, address, sizeof *address);
}

/* The slot is device and function; an old driver does not tell the domain. */
static bool query_nv(const struct device_info *info, struct address *address)
{
    cl_uint slot;
    if (!query(info, PCI_BUS_ID_NV, &address->bus, sizeof address->bus) ||
        !query(info, PCI_SLOT_ID_NV, &slot, sizeof slot))
        return false;
    address->device = slot >> 3;
    address->function = slot & 7;
    if (!query(info, PCI_DOMAIN_ID_NV, &address->domain, sizeof address->domain))
        address->domain = 0;
    return true;
}

static bool query_amd(const struct device_info *info, struct address *address)
{
    struct {
        cl_uint type;
        cl_uchar unused[17], bus, device, function;
    } topology;
    if (!query(info, TOPOLOGY_AMD, &topology, sizeof topology) ||
        topology.type != TOPOLOGY_TYPE_PCIE_AMD)
        return false;
    *address = (struct address){0, topology.bus, topology.device, topology.function};
    return true;
}

void pci_query(struct device_info *info, const char *extensions)
{
    static const struct {
        const char *extension;
        bool (*query)(const struct device_info *info, struct address *address);
    } ways[] = {{"cl_khr_pci_bus_info", query_khr},
                {"cl_nv_device_attribute_query", query_nv},
                {"cl_amd_device_attribute_query", query_amd}};
    struct address at = {0};
    info->pci[0] = '\0';
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (!has_extension(extensions, ways[i].extension) || !ways[i].query(info, &at))
            continue;
        if (at.bus < 256 && at.device < 32 && at.function < 8)
            snprintf(info->pci, sizeof info->pci, "%04x:%02x:%02x.%x", (unsigned)at.domain,
                     (unsigned)at.bus, (unsigned)at.device, (unsigned)at.function);
        return;
    }
}
