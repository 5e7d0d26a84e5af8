// SPDX-License-Identifier: Apache-2.0
// All augmentations of one volume.
#pragma once

#include "insula/data/affine_augment.hpp"
#include "insula/data/crop.hpp"
#include "insula/data/gibbs.hpp"
#include "insula/data/intensity_augment.hpp"
#include "insula/data/low_resolution.hpp"
#include "insula/data/smooth.hpp"
