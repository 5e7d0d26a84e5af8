// SPDX-License-Identifier: Apache-2.0
// Reading and writing safetensors files.
#pragma once

#include "insula/io/safetensors_read.hpp"
#include "insula/io/safetensors_write.hpp"
