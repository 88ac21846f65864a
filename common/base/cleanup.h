/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scope-bound ownership and compiler attributes.
 *
 * Every owned local carries one of the cleanup attributes below and is initialised where it is
 * declared; ownership leaves a variable only through BXC_TAKE / BXC_TAKE_FD.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BXC_MUST_CHECK      __attribute__((warn_unused_result))
#define BXC_PRINTF(f, a)    __attribute__((format(printf, f, a)))
#define BXC_NORETURN        __attribute__((noreturn))
#define BXC_UNUSED          __attribute__((unused))
#define BXC_SENTINEL        __attribute__((sentinel))
#define BXC_CLEANUP(fn)     __attribute__((cleanup(fn)))
#define BXC_ARRAY_SIZE(a)   (sizeof(a) / sizeof((a)[0]))
#define BXC_MIN(a, b)       ((a) < (b) ? (a) : (b))
#define BXC_MAX(a, b)       ((a) > (b) ? (a) : (b))

/* The value of the lvalue `p`, which becomes NULL. */
#define BXC_TAKE(p)                                                                                \
	__extension__({                                                                            \
		__typeof__(p) *bxc_take_p_ = &(p);                                                 \
		__typeof__(p) bxc_take_v_ = *bxc_take_p_;                                          \
		*bxc_take_p_ = NULL;                                                               \
		bxc_take_v_;                                                                       \
	})

/* The value of the int lvalue `fd`, which becomes -1. */
#define BXC_TAKE_FD(fd)                                                                            \
	__extension__({                                                                            \
		int *bxc_take_p_ = &(fd);                                                          \
		int bxc_take_v_ = *bxc_take_p_;                                                    \
		*bxc_take_p_ = -1;                                                                 \
		bxc_take_v_;                                                                       \
	})

/* Defines `fn##p`, the cleanup function of a pointer type whose free function accepts NULL. */
#define BXC_DEFINE_CLEANUP(type, fn)                                                               \
	static inline BXC_UNUSED void fn##p(type **p)                                              \
	{                                                                                          \
		if (*p)                                                                            \
			fn(*p);                                                                    \
	}                                                                                          \
	struct bxc_cleanup_semicolon_

static inline void bxc_cleanup_free(void *p)
{
	free(*(void **)p);
}

static inline void bxc_cleanup_close(const int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define BXC_AUTOFREE   BXC_CLEANUP(bxc_cleanup_free)
#define BXC_AUTOCLOSE  BXC_CLEANUP(bxc_cleanup_close)

/* Calls a BXC_MUST_CHECK function whose failure does not matter, and says so. */
#define bxc_ignore(call)                                                                           \
	do {                                                                                       \
		__typeof__(call) bxc_ignored_ BXC_UNUSED = (call);                                 \
	} while (0)

/* A programming error aborts, in every build; never used on input. */
#define bxc_check(expr)                                                                            \
	do {                                                                                       \
		if (__builtin_expect(!(expr), 0))                                                  \
			bxc_check_failed(#expr, __FILE__, __LINE__, __func__);                     \
	} while (0)

BXC_NORETURN void bxc_check_failed(const char *expr, const char *file, int line, const char *func);
