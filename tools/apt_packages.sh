#!/bin/sh
# Installs the Debian packages that the tests of one part use, where that is allowed. Without them the tests that need
# them skip and say so.
set -eu

window="libgl1 libgl1-mesa-dri libx11-6 libxext6 libxcursor1 libxi6 libxrandr2 libxss1 libxfixes3 libmtdev1 xvfb xdotool x11-utils imagemagick"
decoding="dcmtk"
sending="orthanc"
hospital="postgresql chromium"
case "${1:-all}" in
  server) wanted="$decoding $hospital" ;;
  edge) wanted="$decoding $sending $window" ;;
  *) wanted="$decoding $sending $window $hospital" ;;
esac

command -v dpkg-query >/dev/null || exit 0
missing=""
for package in $wanted; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    as_root="sudo -n"
  else
    echo "Not allowed to install packages here; tests that need them will skip. For all tests: sudo apt-get install$missing"
    exit 0
  fi
fi
echo "Installing Debian packages for the tests:$missing"
case "$missing" in *orthanc*) # the tests start their own; the package would start another one as a service
  if [ -d /run/systemd/system ]; then $as_root systemctl mask --quiet orthanc.service; fi ;;
esac
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
