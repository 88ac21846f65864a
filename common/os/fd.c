/* SPDX-License-Identifier: Apache-2.0 */
#include "common/os/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define READ_STEP   (64u << 10)
#define COPY_BUFFER (256u << 10)
/* The kernel moves at most this much in one call; asking for more overflows on some file systems.
 */
#define COPY_STEP UINT64_C(0x40000000)

int bxc_fd_wait(int fd, short events, int timeout_ms, bxc_err **err)
{
	int64_t deadline_ns = bxc_clock_mono_ns() + timeout_ms * BXC_NS_PER_MS;
	struct pollfd p = {.fd = fd, .events = events};
	for (;;) {
		int n = poll(&p, 1, timeout_ms);
		if (n >= 0)
			return n;
		if (errno != EINTR)
			return bxc_err_errno(err, errno, "poll");
		if (timeout_ms > 0)
			timeout_ms = bxc_clock_left_ms(deadline_ns);
	}
}

/* What to do after a failed call: 0 to try again, else the error. */
static int retry(int fd, short events, int errnum, const char *what, bxc_err **err)
{
	if (errnum == EINTR)
		return 0;
	if (errnum != EAGAIN)
		return bxc_err_errno(err, errnum, "%s", what);
	int r = bxc_fd_wait(fd, events, -1, err);
	return r < 0 ? r : 0;
}

static int read_full(
	int fd, void *p, size_t n, const uint64_t *offset, size_t *ret_n, bxc_err **err)
{
	size_t done = 0;
	while (done < n) {
		uint8_t *at = (uint8_t *)p + done;
		ssize_t got = offset ? pread(fd, at, n - done, (off_t)(*offset + done))
				     : read(fd, at, n - done);
		if (got == 0)
			break;
		if (got < 0) {
			int r = retry(fd, POLLIN, errno, "read", err);
			if (r < 0)
				return r;
			continue;
		}
		done += (size_t)got;
	}
	*ret_n = done;
	return 0;
}

static int write_all(int fd, const void *p, size_t n, const uint64_t *offset, bxc_err **err)
{
	size_t done = 0;
	while (done < n) {
		const uint8_t *at = (const uint8_t *)p + done;
		ssize_t put = offset ? pwrite(fd, at, n - done, (off_t)(*offset + done))
				     : write(fd, at, n - done);
		if (put < 0) {
			int r = retry(fd, POLLOUT, errno, "write", err);
			if (r < 0)
				return r;
			continue;
		}
		done += (size_t)put;
	}
	return 0;
}

static int check_offset(uint64_t offset, uint64_t n, bxc_err **err)
{
	uint64_t end;
	if (__builtin_add_overflow(offset, n, &end) || end > INT64_MAX)
		return bxc_err_set(err, BXC_OUT_OF_RANGE, "file offset is too large");
	return 0;
}

static int check_exact(size_t got, size_t n, bxc_err **err)
{
	if (got < n)
		return bxc_err_set(err, BXC_DATA_LOSS, "file ends after %zu of %zu bytes", got, n);
	return 0;
}

int bxc_fd_read_full(int fd, void *p, size_t n, size_t *ret_n, bxc_err **err)
{
	return read_full(fd, p, n, NULL, ret_n, err);
}

int bxc_fd_read_exact(int fd, void *p, size_t n, bxc_err **err)
{
	size_t got = 0;
	int r = read_full(fd, p, n, NULL, &got, err);
	return r < 0 ? r : check_exact(got, n, err);
}

int bxc_fd_pread_full(int fd, void *p, size_t n, uint64_t offset, size_t *ret_n, bxc_err **err)
{
	int r = check_offset(offset, n, err);
	return r < 0 ? r : read_full(fd, p, n, &offset, ret_n, err);
}

int bxc_fd_pread_exact(int fd, void *p, size_t n, uint64_t offset, bxc_err **err)
{
	size_t got = 0;
	int r = bxc_fd_pread_full(fd, p, n, offset, &got, err);
	return r < 0 ? r : check_exact(got, n, err);
}

int bxc_fd_write_all(int fd, const void *p, size_t n, bxc_err **err)
{
	return write_all(fd, p, n, NULL, err);
}

int bxc_fd_pwrite_all(int fd, const void *p, size_t n, uint64_t offset, bxc_err **err)
{
	int r = check_offset(offset, n, err);
	return r < 0 ? r : write_all(fd, p, n, &offset, err);
}

int bxc_fd_read_to_end(int fd, bxc_buf *buf, bxc_err **err)
{
	for (;;) {
		/* One byte past the maximum is read, to tell a full buffer from a file that is too
		 * large. */
		size_t room = buf->max_bytes - buf->len;
		size_t want = BXC_MIN(room, (size_t)READ_STEP);
		uint8_t probe;
		int r = want ? bxc_buf_reserve(buf, want, err) : 0;
		if (r < 0)
			return r;
		size_t got = 0;
		r = read_full(
			fd, want ? buf->data + buf->len : &probe, want ? want : 1, NULL, &got, err);
		if (r < 0)
			return r;
		if (got == 0)
			return 0;
		if (!want)
			return bxc_err_set(err, BXC_RESOURCE_EXHAUSTED,
				"content is larger than %zu bytes", buf->max_bytes);
		buf->len += got;
		buf->data[buf->len] = 0;
	}
}

/* ---- copies ---- */

static bool is_unsupported_copy(int errnum)
{
	/* EBADF: append mode; EPERM: sealed or immutable under some kernels' checks; EIO and EINVAL
	 * are what file systems of the proc and fuse kind answer. */
	return errnum == EXDEV || errnum == ENOSYS || errnum == EINVAL || errnum == EOPNOTSUPP ||
	       errnum == EBADF || errnum == EPERM || errnum == EIO || errnum == ETXTBSY;
}

typedef ssize_t (*copy_fn)(int in_fd, uint64_t offset, int out_fd, size_t n);

static ssize_t copy_range(int in_fd, uint64_t offset, int out_fd, size_t n)
{
	loff_t at = (loff_t)offset;
	return copy_file_range(in_fd, &at, out_fd, NULL, n, 0);
}

static ssize_t copy_sendfile(int in_fd, uint64_t offset, int out_fd, size_t n)
{
	off_t at = (off_t)offset;
	return sendfile(out_fd, in_fd, &at, n);
}

/* 1 when everything was copied, 0 when another way must do the rest. */
static int copy_by(copy_fn fn, int in_fd, uint64_t *offset, int out_fd, uint64_t *n, bxc_err **err)
{
	while (*n) {
		ssize_t moved = fn(in_fd, *offset, out_fd, (size_t)BXC_MIN(*n, COPY_STEP));
		if (moved < 0) {
			if (is_unsupported_copy(errno))
				return 0;
			int r = retry(out_fd, POLLOUT, errno, "copy", err);
			if (r < 0)
				return r;
			continue;
		}
		/* The end of the file, or a file system (procfs) that does not know its sizes. */
		if (moved == 0)
			return 0;
		*offset += (uint64_t)moved;
		*n -= (uint64_t)moved;
	}
	return 1;
}

static int copy_by_buffer(int in_fd, uint64_t offset, int out_fd, uint64_t n, bxc_err **err)
{
	BXC_AUTOFREE uint8_t *buffer = bxc_malloc(COPY_BUFFER);
	while (n) {
		size_t step = (size_t)BXC_MIN(n, (uint64_t)COPY_BUFFER);
		int r = bxc_fd_pread_exact(in_fd, buffer, step, offset, err);
		if (r < 0)
			return r;
		r = bxc_fd_write_all(out_fd, buffer, step, err);
		if (r < 0)
			return r;
		offset += step;
		n -= step;
	}
	return 0;
}

int bxc_fd_copy(int in_fd, uint64_t in_offset, int out_fd, uint64_t n, bxc_err **err)
{
	int r = check_offset(in_offset, n, err);
	if (r < 0)
		return r;
	r = copy_by(copy_range, in_fd, &in_offset, out_fd, &n, err);
	if (r == 0)
		r = copy_by(copy_sendfile, in_fd, &in_offset, out_fd, &n, err);
	if (r == 0)
		r = copy_by_buffer(in_fd, in_offset, out_fd, n, err);
	return r < 0 ? r : 0;
}

/* ---- making and changing descriptors ---- */

int bxc_fd_size(int fd, uint64_t *ret_bytes, bxc_err **err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return bxc_err_errno(err, errno, "fstat");
	if (!S_ISREG(st.st_mode))
		return bxc_err_set(err, BXC_INVALID_ARGUMENT, "not a regular file");
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

int bxc_fd_sync(int fd, bxc_err **err)
{
	while (fsync(fd) < 0)
		if (errno != EINTR)
			return bxc_err_errno(err, errno, "fsync");
	return 0;
}

int bxc_fd_pipe(int *ret_read_fd, int *ret_write_fd, bxc_err **err)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return bxc_err_errno(err, errno, "pipe");
	*ret_read_fd = fds[0];
	*ret_write_fd = fds[1];
	return 0;
}

int bxc_fd_socketpair(int *ret_a_fd, int *ret_b_fd, bxc_err **err)
{
	int fds[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return bxc_err_errno(err, errno, "socketpair");
	*ret_a_fd = fds[0];
	*ret_b_fd = fds[1];
	return 0;
}

int bxc_fd_dup(int fd, int *ret_fd, bxc_err **err)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return bxc_err_errno(err, errno, "duplicate descriptor %d", fd);
	*ret_fd = copy;
	return 0;
}

int bxc_fd_memfd(const char *name, const void *p, size_t n, bool sealed, int *ret_fd, bxc_err **err)
{
	BXC_AUTOCLOSE int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return bxc_err_errno(err, errno, "memfd '%s'", name);
	int r = bxc_fd_pwrite_all(fd, p, n, 0, err);
	if (r < 0)
		return r;
	if (sealed && fcntl(fd, F_ADD_SEALS,
			      F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return bxc_err_errno(err, errno, "seal memfd '%s'", name);
	*ret_fd = BXC_TAKE_FD(fd);
	return 0;
}

int bxc_fd_set_nonblock(int fd, bool on, bxc_err **err)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0)
		return bxc_err_errno(err, errno, "change flags of descriptor %d", fd);
	return 0;
}

int bxc_fd_set_cloexec(int fd, bool on, bxc_err **err)
{
	if (fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0) < 0)
		return bxc_err_errno(err, errno, "change flags of descriptor %d", fd);
	return 0;
}
