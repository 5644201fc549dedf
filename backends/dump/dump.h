/* SPDX-License-Identifier: Apache-2.0 */
/* The backend of memory images: `dump:FILE[,option=value]...`; see hvmi-targets(7). */
#ifndef HVMI_BACKENDS_DUMP_H
#define HVMI_BACKENDS_DUMP_H

#include <hvmi/backend.h>

const struct hvmi_backend *hvmi_backend_dump(void);

#endif
