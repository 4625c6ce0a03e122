# The image of a release (goreleaser.yaml, dockers_v2), which has built the program already. There is no shell
# in it, and its user is nonroot. A local store needs a volume where that user may write, as in its home directory:
# docker run -v files:/home/nonroot IMAGE --local=/home/nonroot/store ...
FROM gcr.io/distroless/static-debian12:nonroot
ARG TARGETPLATFORM
COPY LICENSE THIRD_PARTY_LICENSES.txt /usr/share/doc/filestore/
COPY $TARGETPLATFORM/filestore /usr/bin/filestore
USER 65532:65532
ENTRYPOINT ["/usr/bin/filestore"]
