// SPDX-License-Identifier: Apache-2.0
// NIfTI images: nifti_info, read_nifti, read_labels, write_nifti.
#pragma once

#include "insula/data/nifti_read.hpp"
#include "insula/data/nifti_write.hpp"
