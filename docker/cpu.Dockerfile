# CPU image of the command line: docker build -f docker/cpu.Dockerfile -t iqagpt .
FROM python:3.12-slim AS build
COPY . /src
RUN pip wheel --no-cache-dir --constraint /src/constraints.txt --wheel-dir /wheels "/src[cpu]"

FROM python:3.12-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-index --find-links /wheels "iqagpt[cpu]" && rm -r /wheels \
    && useradd --create-home iqagpt
USER iqagpt
WORKDIR /data
ENTRYPOINT ["iqagpt"]
CMD ["--help"]
