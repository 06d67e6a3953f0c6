"""Parts of wm_planner in a package of their own, a file each."""
