/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "common/base/cleanup.h"

/*
 * Blocks the signals that programs take through signalfd (bxc_loop_on_signal): INT, TERM, HUP,
 * QUIT, USR1, USR2, CHLD, WINCH; ignores PIPE. First thing in main(), before any library makes a
 * thread. Children get a clean state from bxc_proc_spawn.
 */
void bxc_sig_block_all(void);

/* While `on`, INT and TERM end the program, taken by the calling thread: for a wait before there is a
 * loop. */
void bxc_sig_default(bool on);
