#include "include/iommufd_mock.h"

#include <sys/ioctl.h>

_Static_assert(SMUDGE_IOMMU_TEST_CMD == _IO(';', 0x80 + 32), "IOMMU_TEST_CMD");
_Static_assert(sizeof(smudge_mock_domain) == 72, "struct iommu_test_cmd");
_Static_assert(offsetof(smudge_mock_domain, out_stdev_id) == 16, "mock_domain_flags");
_Static_assert(offsetof(smudge_mock_domain, dev_flags) == 28, "mock_domain_flags");
_Static_assert(offsetof(smudge_mock_domain, last) == 64, "struct iommu_test_cmd");
_Static_assert(sizeof(smudge_mock_replace) == 72, "struct iommu_test_cmd");
_Static_assert(offsetof(smudge_mock_replace, pt_id) == 16, "mock_domain_replace");
_Static_assert(offsetof(smudge_mock_replace, last) == 64, "struct iommu_test_cmd");
_Static_assert(sizeof(smudge_mock_dirty) == 72, "struct iommu_test_cmd");
_Static_assert(offsetof(smudge_mock_dirty, iova) == 24, "dirty");
_Static_assert(offsetof(smudge_mock_dirty, uptr) == 48, "dirty");
_Static_assert(offsetof(smudge_mock_dirty, out_nr_dirty) == 56, "dirty");
_Static_assert(offsetof(smudge_mock_dirty, last) == 64, "struct iommu_test_cmd");
_Static_assert(sizeof(smudge_mock_hwpt) == 8, "struct iommu_hwpt_selftest");
