/* SPDX-License-Identifier: Apache-2.0 */
#ifndef GUEST_SCENE_H
#define GUEST_SCENE_H

/* The pseudo file systems, before anything else. */
void scene_base(void);
/* Directories, files and mounts that the actors use. */
void scene_set(void);

/* Shared by init, which makes them, and the actor, which uses them. */
#define SCENE_NAMES "/scene/names"	/* files with odd names */
#define SCENE_DEEP "/scene/deep"	/* the deep directories begin here */
#define SCENE_DEEP_LEVELS 14
#define SCENE_TMPFS "/scene/tmpfs"
#define SCENE_BIND "/scene/bind"	/* SCENE_TMPFS/inner again */
#define SCENE_EXT4 "/scene/ext4"
#define SCENE_OVERLAY "/scene/overlay"
#define SCENE_JAIL "/scene/jail"	/* a root to chroot into */

#endif
