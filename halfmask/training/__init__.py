from halfmask.pictures.save import keep_fonts_out_of_home

# Lightning imports matplotlib.
keep_fonts_out_of_home()
