/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "coordinator/attest/attest.h"

/* Which vertices the target needs; owned, one per vertex. */
bool *att_reachable(const bxc_att_facts *f);
/* {"llbDefinition": [{"id": "step0", "op": ..., "inputs": ["step1:0"]}], "digestMapping": {"sha256:..": "step0"}}; owned. */
bxc_json *att_steps(const bxc_att_facts *f);
/* {"locations": {"step0": ...}, "infos": [the Dockerfile]}; owned. */
bxc_json *att_source_map(const bxc_att_facts *f);
