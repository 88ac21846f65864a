#!/bin/sh
echo "$(cat /app/greeting), $WHO: $(cat /app/count) words were counted."
