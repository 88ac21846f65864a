/* SPDX-License-Identifier: Apache-2.0 */
#include "common/os/sig.h"

#include <pthread.h>
#include <signal.h>

void bxc_sig_block_all(void)
{
	static const int signals[] = {
		SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCHLD, SIGWINCH};
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < BXC_ARRAY_SIZE(signals); i++)
		sigaddset(&set, signals[i]);
	bxc_check(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	bxc_check(sigaction(SIGPIPE, &ignore, NULL) == 0);
}

void bxc_sig_default(bool on)
{
	/* What a shell starts in the background has INT ignored. */
	const struct sigaction end = {.sa_handler = SIG_DFL};
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	bxc_check(sigaction(SIGINT, &end, NULL) == 0 && sigaction(SIGTERM, &end, NULL) == 0);
	bxc_check(pthread_sigmask(on ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL) == 0);
}
