// The colours of halfmask/pictures/style.py; a test keeps them the same.
export const PALETTE = [
  [255, 159, 28], [56, 190, 255], [0, 168, 107], [250, 230, 50], [38, 90, 235], [232, 65, 24],
  [226, 98, 196], [120, 235, 190], [255, 196, 140], [150, 120, 255], [176, 160, 0], [255, 170, 215],
];

/** The colour of a class, [r, g, b]; label 0 is an object of no class. */
export function colourOf(label) {
  return PALETTE[label ? (label * 5 + Math.floor(label / PALETTE.length)) % PALETTE.length : 1];
}

export function css([red, green, blue], alpha = 1) {
  return `rgb(${red} ${green} ${blue} / ${alpha})`;
}
