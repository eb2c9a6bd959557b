/* Draws a scene. Local.
 *
 * Anti-aliased by 4x4 samples a pixel; backgrounds plain, gradient, stripes, checks or coarse noise
 * in shades of the named colour; a little noise on every pixel.
 */
#ifndef FZ_DATA_SYNTH_RENDER_H
#define FZ_DATA_SYNTH_RENDER_H

#include "data/synth_scene.h"

/* rgb (side, side, 3). The same scene and side: the same bytes. */
void fz_scene_render(const fz_scene *scene, int side, uint8_t *rgb);

#endif
