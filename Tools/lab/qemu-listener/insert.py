#!/usr/bin/env python3
"""insert.py TREE: puts our calls into QEMU's source in TREE: two files of ours that two of QEMU's
include, and the lines below, each at a function that has it by name. A place that is not found is
an error, so that another version of QEMU is not built with calls missing."""

import pathlib
import re
import shutil
import sys

here = pathlib.Path(__file__).resolve().parent
tree = pathlib.Path(sys.argv[1])

# file, the line that begins the function ("" for the whole file), the line in it, what goes
# "after" or "before" that line
INSERTIONS = [
    ("include/hw/vfio/vfio-container.h", r"struct VFIOContainer \{",
     r"    MemoryListener listener;", "after", "    VFIOSmudge *smudge;\n"),
    ("include/hw/vfio/vfio-container.h", "", r"typedef struct VFIODevice VFIODevice;", "after",
     "typedef struct VFIOSmudge VFIOSmudge;\n"),
    ("hw/vfio/meson.build", "", r"specific_ss\.add_all\(when: 'CONFIG_VFIO', .*", "before",
     "vfio_ss.add(dependency('libsmudge'))\n"),
    ("hw/vfio/container.c", "", r'#include "vfio-helpers\.h"', "after",
     '#include "vfio-smudge.h"\n'),
    ("hw/vfio/container.c", r"int vfio_container_dma_map\(.*", r"\{", "after",
     "    if (vfio_smudge_enter(bcontainer)) {\n"
     "        return vfio_smudge_dma_map(bcontainer, iova, size, vaddr, readonly, mr);\n"
     "    }\n"),
    ("hw/vfio/container.c", r"int vfio_container_dma_unmap\(.*", r"\{", "after",
     "    if (vfio_smudge_enter(bcontainer)) {\n"
     "        return vfio_smudge_dma_unmap(bcontainer, iova, size, unmap_all);\n"
     "    }\n"),
    ("hw/vfio/container.c", "", r"DEFINE_TYPES\(types\)", "after",
     '#include "vfio-smudge.c.inc"\n'),
    ("hw/vfio/listener.c", "", r'#include "vfio-helpers\.h"', "after",
     '#include "vfio-smudge.h"\n'),
    ("hw/vfio/listener.c", r"bool vfio_listener_register\(.*",
     r"    bcontainer->listener = vfio_memory_listener;", "after",
     "    if (!vfio_smudge_register(bcontainer, errp)) {\n"
     "        return false;\n"
     "    }\n"),
    ("hw/vfio/listener.c", r"void vfio_listener_unregister\(.*",
     r"    memory_listener_unregister\(&bcontainer->listener\);", "after",
     "    vfio_smudge_unregister(bcontainer);\n"),
    ("hw/vfio/listener.c", r"static bool vfio_listener_log_global_start\(.*", r"    if \(!ret\) \{",
     "before", "    ret = ret && vfio_smudge_log_start(bcontainer, errp);\n"),
    ("hw/vfio/listener.c", r"static void vfio_listener_log_global_stop\(.*",
     r"    if \(vfio_container_devices_dirty_tracking_is_supported\(bcontainer\)\) \{", "before",
     "    vfio_smudge_log_stop(bcontainer);\n"),
    # Not the tracker's: with our calls off QEMU's own logic shall ask vfio-user's devices as it
    # asks others.
    ("hw/vfio/listener.c", r"static bool vfio_log_sync_needed\(.*", r"        if \(!migration\) \{",
     "before",
     "        if (!migration && vfio_smudge_logs_without_migration(bcontainer)) {\n"
     "            continue;\n"
     "        }\n"),
    ("hw/vfio-user/container.c", r"static bool vfio_user_setup\(.*", r"    return true;", "before",
     "    bcontainer->dirty_pages_supported = true;\n"),
    ("hw/vfio-user/container.c", "", r"static void vfio_iommu_user_class_init\(.*", "before",
     '#include "vfio-user-log.c.inc"\n\n'),
    ("hw/vfio-user/container.c", r"static void vfio_iommu_user_class_init\(.*",
     r"    vioc->query_dirty_bitmap = .*", "after", "    vfio_user_log_class_init(vioc);\n"),
]


def place(lines, function, wanted):
    """The number of the first line that is `wanted` in the function."""
    inside = not function
    for number, line in enumerate(lines):
        inside = inside or re.fullmatch(function, line) is not None
        if inside and re.fullmatch(wanted, line):
            return number
        if inside and function and line.startswith("}"):
            return None
    return None


inserted = 0
for name, function, wanted, side, text in INSERTIONS:
    path = tree / name
    lines = path.read_text().split("\n") if path.exists() else []
    number = place(lines, function, wanted)
    if number is None:
        sys.exit(f"insert: {name} has no line {wanted!r} in {function or 'it'!r}")
    new = text.removesuffix("\n").split("\n")
    at = number + (side == "after")
    path.write_text("\n".join(lines[:at] + new + lines[at:]))
    inserted += len(new)
for name, folder in [("vfio-smudge.h", "hw/vfio"), ("vfio-smudge.c.inc", "hw/vfio"),
                     ("vfio-user-log.c.inc", "hw/vfio-user")]:
    shutil.copy(here / name, tree / folder)
print(f"{inserted} lines inserted")
