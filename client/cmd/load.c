/* SPDX-License-Identifier: Apache-2.0 */
/* --load: what the docker exporter sends goes into `docker load`. */
#include <signal.h>
#include <unistd.h>

#include "client/cmd/cmd_internal.h"
#include "common/base/mem.h"
#include "common/os/fd.h"
#include "common/os/proc.h"

struct loader {
	bxc_proc *proc;
	int fd;
};

void loader_free(loader *l)
{
	if (!l)
		return;
	bxc_cleanup_close(&l->fd);
	bxc_proc_free(l->proc);
	free(l);
}

int loader_start(loader **ret, int *ret_fd, bxc_err **err)
{
	char docker[] = "docker", load[] = "load", quiet[] = "-q";
	char *argv[] = {docker, load, quiet, NULL};
	BXC_AUTOCLOSE int read_fd = -1;
	loader *l = bxc_calloc(1, sizeof(*l));
	l->fd = -1;
	int r = bxc_fd_pipe(&read_fd, &l->fd, err);
	if (r >= 0) {
		/* What it says belongs to progress, not to results. */
		const bxc_proc_fd fds[] = {{read_fd, 0}, {STDERR_FILENO, 1}};
		const bxc_proc_spec spec = {.argv = argv, .fds = fds, .n_fds = BXC_ARRAY_SIZE(fds)};
		r = bxc_proc_spawn(&spec, &l->proc, err);
	}
	if (r == -BXC_NOT_FOUND)
		r = bxc_err_wrap(err, r, "--load needs the docker command on this machine");
	if (r < 0) {
		loader_free(l);
		return r;
	}
	*ret_fd = l->fd;
	*ret = l;
	return 0;
}

int loader_finish(loader *l, bxc_err **err)
{
	bxc_proc_status status;
	bxc_cleanup_close(&l->fd);
	l->fd = -1;
	int r = bxc_proc_wait(l->proc, &status, err);
	if (r >= 0 && status.exit_code != 0)
		r = bxc_err_set(err, BXC_FAILED_PRECONDITION,
			"docker load failed with exit code %d", status.exit_code);
	loader_free(l);
	return r;
}
