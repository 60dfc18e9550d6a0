#ifndef SMUDGE_CJSON_SHIM_H
#define SMUDGE_CJSON_SHIM_H
#include <json-c/json_object.h>
#include <json-c/json_tokener.h>
#endif
