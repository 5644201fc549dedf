/* SPDX-License-Identifier: Apache-2.0 */
/* A scripted machine for tests: `sim:FILE`. docs/man/hvmi-sim.5 has the script's format. */
#ifndef HVMI_BACKEND_SIM_H
#define HVMI_BACKEND_SIM_H

#include <hvmi/backend.h>

const struct hvmi_backend *hvmi_backend_sim(void);

#endif
