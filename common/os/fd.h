/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole reads and writes on file descriptors, pipes, memfds and copies in the kernel.
 * Everything retries EINTR. The *_all and *_full functions also work on non-blocking descriptors
 * (they wait with poll), so they belong on pool threads, not on the loop's.
 */
#pragma once

#include <sys/types.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/err.h"

/* Reads until n bytes or the end of file; *ret_n < n only at the end. */
BXC_MUST_CHECK int bxc_fd_read_full(int fd, void *p, size_t n, size_t *ret_n, bxc_err **err);
/* Reads exactly n bytes; BXC_DATA_LOSS when the file ends before. */
BXC_MUST_CHECK int bxc_fd_read_exact(int fd, void *p, size_t n, bxc_err **err);
/* Appends everything up to the end of file; BXC_RESOURCE_EXHAUSTED past the buffer's maximum. */
BXC_MUST_CHECK int bxc_fd_read_to_end(int fd, bxc_buf *buf, bxc_err **err);
BXC_MUST_CHECK int bxc_fd_write_all(int fd, const void *p, size_t n, bxc_err **err);

/* The same at an offset; the file position does not move. */
BXC_MUST_CHECK int bxc_fd_pread_full(
	int fd, void *p, size_t n, uint64_t offset, size_t *ret_n, bxc_err **err);
BXC_MUST_CHECK int bxc_fd_pread_exact(int fd, void *p, size_t n, uint64_t offset, bxc_err **err);
BXC_MUST_CHECK int bxc_fd_pwrite_all(
	int fd, const void *p, size_t n, uint64_t offset, bxc_err **err);

/*
 * Copies n bytes of in_fd, from in_offset on, to the position of out_fd: copy_file_range where
 * the file systems can, else sendfile, else read and write. The position of in_fd stays.
 * BXC_DATA_LOSS when in_fd is shorter.
 */
BXC_MUST_CHECK int bxc_fd_copy(
	int in_fd, uint64_t in_offset, int out_fd, uint64_t n, bxc_err **err);

/* Size of a regular file or memfd. */
BXC_MUST_CHECK int bxc_fd_size(int fd, uint64_t *ret_bytes, bxc_err **err);
/* fsync. */
BXC_MUST_CHECK int bxc_fd_sync(int fd, bxc_err **err);

/* Everything made here is close-on-exec. */
BXC_MUST_CHECK int bxc_fd_pipe(int *ret_read_fd, int *ret_write_fd, bxc_err **err);
/* A connected pair of Unix stream sockets. */
BXC_MUST_CHECK int bxc_fd_socketpair(int *ret_a_fd, int *ret_b_fd, bxc_err **err);
/* A duplicate with a number of at least 3. */
BXC_MUST_CHECK int bxc_fd_dup(int fd, int *ret_fd, bxc_err **err);
/* An anonymous file with this content, positioned at 0; sealed against any change when `sealed`. */
BXC_MUST_CHECK int bxc_fd_memfd(
	const char *name, const void *p, size_t n, bool sealed, int *ret_fd, bxc_err **err);

BXC_MUST_CHECK int bxc_fd_set_nonblock(int fd, bool on, bxc_err **err);
/* Clears or sets close-on-exec. */
BXC_MUST_CHECK int bxc_fd_set_cloexec(int fd, bool on, bxc_err **err);
/* Waits until one of the poll events holds (or error/hang-up); timeout_ms -1: for ever.
 * 1 when ready, 0 on time out. */
BXC_MUST_CHECK int bxc_fd_wait(int fd, short events, int timeout_ms, bxc_err **err);
