#ifndef SMUDGE_CNUMA_SHIM_H
#define SMUDGE_CNUMA_SHIM_H
#include <numa.h>
#include <numaif.h>
#endif
