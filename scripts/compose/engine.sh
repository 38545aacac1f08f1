# Sourced: a Docker engine while a script needs one. Scripts share it; the last one ends it, if it was started here.

readonly ENGINE_USERS=${XDG_CACHE_HOME:-$HOME/.cache}/roadstead/compose/users

engine_up() {
  mkdir -p "${ENGINE_USERS%/*}"
  exec 8>>"$ENGINE_USERS"
  flock --shared 8
  nice scripts/compose/standins.sh engine 8>&- 9>&-
}

engine_down() {
  exec 8>&-
  scripts/compose/standins.sh stop 9>&-
}
