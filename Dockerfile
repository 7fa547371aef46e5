# The image of tokenkit-authz: one static binary that runs as nobody in particular, with nothing to write to but /data.
#
#   docker build --build-arg VERSION=v1.2.3 -t tokenkit-authz .
#
# Releases put a binary in that is built already: --build-arg BINARY=prebuilt. Both give the same binary from the same commit
# and version. Pin the two images by digest where builds must be repeated to the last byte of the image.
ARG BINARY=built

FROM --platform=$BUILDPLATFORM golang:1.26 AS built
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH VERSION=
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -ldflags="-s -w -X main.version=$VERSION" \
      -o /out/tokenkit-authz ./cmd/tokenkit-authz \
 && mkdir /out/data

FROM --platform=$BUILDPLATFORM golang:1.26 AS prebuilt
ARG TARGETPLATFORM
COPY $TARGETPLATFORM/tokenkit-authz /out/tokenkit-authz
RUN mkdir /out/data

FROM $BINARY AS binary

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=binary /out/tokenkit-authz /tokenkit-authz
# A volume takes over the owner of what it is mounted on. The service makes a folder of its own within, which is its owner's only:
# the mode of a copied folder is not kept.
COPY --from=binary --chown=65532:65532 /out/data /data
VOLUME /data
USER 65532:65532
EXPOSE 9001 9002
ENTRYPOINT ["/tokenkit-authz"]
CMD ["serve", "--data", "/data/tokenkit"]
