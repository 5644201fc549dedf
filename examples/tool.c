/* SPDX-License-Identifier: Apache-2.0 */
#include <hvmi/hvmi.h>
