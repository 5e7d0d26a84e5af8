// SPDX-License-Identifier: Apache-2.0
// What a test is compiled with: SANITIZED under the sanitizers of addresses or threads, THREAD_SANITIZED under the latter.
#pragma once

#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZED
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZED
#endif
#endif

#if defined(THREAD_SANITIZED) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED
#endif
#endif
